#include "report.hpp"

#include <iomanip>
#include <iostream>

void describe(const Shape& shape) {
    std::cout << shape.name() << ": " << std::fixed << std::setprecision(2) << shape.area() << '\n';
}
