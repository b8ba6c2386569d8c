#include <iostream>
#include <stdexcept>

int divide(int dividend, int divisor) {
    if (divisor == 0) {
        throw std::domain_error("boom");
    }
    return dividend / divisor;
}

int main() {
    std::cout << "before" << std::endl;
    std::cout << divide(1, 0) << std::endl;
}
