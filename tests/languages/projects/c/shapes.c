#include "shapes.h"

#include <math.h>

double square_area(double side) {
    return pow(side, 2);
}

double circle_area(double radius) {
    return acos(-1) * pow(radius, 2);
}
