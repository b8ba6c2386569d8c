#include <algorithm>
#include <fstream>
#include <iostream>
#include <string>

int main() {
    const std::string greeting = "Grüße, 世界 🌍";
    const auto starts_code_point = [](unsigned char byte) { return (byte & 0xC0) != 0x80; };
    std::cout << greeting << '\n'
              << std::count_if(greeting.begin(), greeting.end(), starts_code_point) << " code points\n";
    std::ofstream("grüße 世界.txt") << greeting << '\n';
}
