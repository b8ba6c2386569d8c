#include <iostream>
#include <vector>

std::vector<int> primes_below(int limit) {
    std::vector<bool> composite(limit);
    std::vector<int> primes;
    for (int number = 2; number < limit; ++number) {
        if (composite[number]) {
            continue;
        }
        primes.push_back(number);
        for (long multiple = 1L * number * number; multiple < limit; multiple += number) {
            composite[multiple] = true;
        }
    }
    return primes;
}

int main() {
    constexpr int limit = 100'000;
    const auto primes = primes_below(limit);
    const char* separator = "";
    for (const int prime : primes) {
        if (prime > 100) {
            break;
        }
        std::cout << separator << prime;
        separator = " ";
    }
    std::cout << '\n' << primes.size() << " primes below " << limit << ", the last is " << primes.back() << '\n';
}
