#include <cstdint>
#include <iomanip>
#include <iostream>
#include <vector>

// Groups of nine digits, the least first.
class BigNumber {
public:
    BigNumber& operator*=(std::uint64_t factor) {
        std::uint64_t carry = 0;
        for (auto& group : groups_) {
            carry += group * factor;
            group = carry % base;
            carry /= base;
        }
        if (carry > 0) {
            groups_.push_back(carry);
        }
        return *this;
    }

    friend std::ostream& operator<<(std::ostream& out, const BigNumber& number) {
        out << number.groups_.back();
        for (auto group = number.groups_.rbegin() + 1; group != number.groups_.rend(); ++group) {
            out << std::setw(9) << std::setfill('0') << *group;
        }
        return out;
    }

private:
    static constexpr std::uint64_t base = 1'000'000'000;
    std::vector<std::uint64_t> groups_{1};
};

int main() {
    for (const int number : {5, 25, 50}) {
        BigNumber product;
        for (int factor = 2; factor <= number; ++factor) {
            product *= factor;
        }
        std::cout << number << "! = " << product << '\n';
    }
}
