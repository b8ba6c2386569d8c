#include <stdio.h>
#include <stdlib.h>

int main(void) {
    puts("leaving");
    fputs("so long\n", stderr);
    exit(7);
}
