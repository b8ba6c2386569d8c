#include <algorithm>
#include <cctype>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

int main() {
    std::map<std::string, int> counts;
    std::string word;
    const auto finish_word = [&] {
        if (!word.empty()) {
            ++counts[word];
            word.clear();
        }
    };
    for (std::istreambuf_iterator<char> position(std::cin), end; position != end; ++position) {
        const auto character = static_cast<unsigned char>(*position);
        if (std::isalpha(character)) {
            word += static_cast<char>(std::tolower(character));
        } else {
            finish_word();
        }
    }
    finish_word();

    // The map is sorted by word, and a stable sort keeps that for equal counts.
    std::vector<std::pair<std::string, int>> sorted(counts.begin(), counts.end());
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
    sorted.resize(std::min<std::size_t>(sorted.size(), 10));
    for (const auto& [text, count] : sorted) {
        std::cout << count << ' ' << text << '\n';
    }
}
