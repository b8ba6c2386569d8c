#include <iostream>
#include <string>

int main(int argc, char* argv[]) {
    for (int index = 1; index < argc; ++index) {
        std::cout << "argument " << index << ": [" << argv[index] << "]\n";
    }
    std::string line;
    for (int number = 1; std::getline(std::cin, line); ++number) {
        std::cout << "line " << number << ": [" << line << "]\n";
    }
}
