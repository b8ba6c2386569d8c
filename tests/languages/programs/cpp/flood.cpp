#include <iostream>

int main() {
    for (long number = 1;; ++number) {
        std::cout << "line " << number << '\n';
    }
}
