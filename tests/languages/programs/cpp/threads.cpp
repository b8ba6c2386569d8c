#include <future>
#include <iostream>
#include <vector>

constexpr long workers = 4;
constexpr long limit = 100'000;

long sum_of_squares(long first) {
    long sum = 0;
    for (long n = first; n <= limit; n += workers) {
        sum += n * n;
    }
    return sum;
}

int main() {
    std::vector<std::future<long>> parts;
    for (long first = 1; first <= workers; ++first) {
        parts.push_back(std::async(std::launch::async, sum_of_squares, first));
    }
    long total = 0;
    for (auto& part : parts) {
        total += part.get();
    }
    std::cout << parts.size() << " workers, total " << total << '\n';
}
