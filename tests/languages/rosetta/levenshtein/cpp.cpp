#include <algorithm>
#include <iostream>
#include <numeric>
#include <string>
#include <vector>

int distance(const std::string& source, const std::string& target) {
    std::vector<int> previous(target.size() + 1);
    std::iota(previous.begin(), previous.end(), 0);
    for (const char wanted : source) {
        std::vector<int> current{previous.front() + 1};
        for (std::size_t column = 0; column < target.size(); ++column) {
            const int replaced = previous[column] + (wanted != target[column]);
            current.push_back(std::min({replaced, previous[column + 1] + 1, current[column] + 1}));
        }
        previous.swap(current);
    }
    return previous.back();
}

int main() {
    for (std::string source, target; std::cin >> source >> target;) {
        std::cout << source << ' ' << target << ' ' << distance(source, target) << '\n';
    }
}
