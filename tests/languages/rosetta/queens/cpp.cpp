#include <cstdlib>
#include <iostream>
#include <vector>

class Board {
public:
    explicit Board(int size) : size_(size) {}

    int solutions() {
        const int row = static_cast<int>(columns_.size());
        if (row == size_) {
            return 1;
        }
        int found = 0;
        for (int column = 0; column < size_; ++column) {
            if (is_free(row, column)) {
                columns_.push_back(column);
                found += solutions();
                columns_.pop_back();
            }
        }
        return found;
    }

private:
    bool is_free(int row, int column) const {
        for (int above = 0; above < row; ++above) {
            const int distance = std::abs(columns_[above] - column);
            if (distance == 0 || distance == row - above) {
                return false;
            }
        }
        return true;
    }

    int size_;
    std::vector<int> columns_;
};

int main() {
    for (int size = 1; size <= 8; ++size) {
        std::cout << size << " queens: " << Board(size).solutions() << '\n';
    }
}
