#include <algorithm>
#include <iostream>
#include <string>

std::string reversed(std::string text) {
    std::reverse(text.begin(), text.end());
    // Now each code point is backwards: its first byte, the one without the leading bits 10, is the last.
    for (auto start = text.begin(); start != text.end();) {
        auto end = std::find_if(start, text.end(), [](unsigned char byte) { return (byte & 0xC0) != 0x80; }) + 1;
        std::reverse(start, end);
        start = end;
    }
    return text;
}

int main() {
    for (std::string line; std::getline(std::cin, line);) {
        std::cout << reversed(line) << '\n';
    }
}
