#include <fstream>
#include <iostream>
#include <string>

int main() {
    std::ifstream input("input.txt");
    std::ofstream output("output.txt");
    int count = 0;
    for (std::string line; std::getline(input, line);) {
        output << ++count << ": " << line << '\n';
    }
    std::cout << count << " lines\n";
}
