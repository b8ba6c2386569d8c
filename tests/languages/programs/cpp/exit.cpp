#include <cstdlib>
#include <iostream>

int main() {
    std::cout << "leaving\n";
    std::cerr << "so long\n";
    std::exit(7);
}
