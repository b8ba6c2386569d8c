#include "report.h"
#include "shapes.h"

int main(void) {
    describe("square", square_area(3));
    describe("circle", circle_area(2));
    return 0;
}
