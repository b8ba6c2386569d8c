#include "report.h"

#include <stdio.h>

void describe(const char *name, double area) {
    printf("%s: %.2f\n", name, area);
}
