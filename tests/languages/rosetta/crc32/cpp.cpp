#include <array>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <string>

constexpr auto table = [] {
    std::array<std::uint32_t, 256> entries{};
    for (std::uint32_t byte = 0; byte < entries.size(); ++byte) {
        std::uint32_t entry = byte;
        for (int bit = 0; bit < 8; ++bit) {
            entry = (entry >> 1) ^ (entry & 1 ? 0xEDB88320u : 0);
        }
        entries[byte] = entry;
    }
    return entries;
}();

std::uint32_t crc32(const std::string& text) {
    std::uint32_t crc = ~std::uint32_t{0};
    for (const unsigned char byte : text) {
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF];
    }
    return ~crc;
}

int main() {
    std::cout << std::hex << std::setfill('0');
    for (std::string line; std::getline(std::cin, line);) {
        std::cout << std::setw(8) << crc32(line) << '\n';
    }
}
