#include <iostream>

int main() {
    std::cout << "started" << std::endl;
    for (volatile unsigned turns = 0;; turns = turns + 1) {
    }
}
