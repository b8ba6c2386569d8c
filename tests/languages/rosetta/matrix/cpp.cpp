#include <array>
#include <cstddef>
#include <iostream>

template <std::size_t Rows, std::size_t Columns>
using Matrix = std::array<std::array<long, Columns>, Rows>;

template <std::size_t Rows, std::size_t Inner, std::size_t Columns>
Matrix<Rows, Columns> operator*(const Matrix<Rows, Inner>& left, const Matrix<Inner, Columns>& right) {
    Matrix<Rows, Columns> result{};
    for (std::size_t row = 0; row < Rows; ++row) {
        for (std::size_t column = 0; column < Columns; ++column) {
            for (std::size_t index = 0; index < Inner; ++index) {
                result[row][column] += left[row][index] * right[index][column];
            }
        }
    }
    return result;
}

int main() {
    const Matrix<2, 3> left{{{1, 2, 3}, {4, 5, 6}}};
    const Matrix<3, 2> right{{{7, 8}, {9, 10}, {11, 12}}};
    for (const auto& row : left * right) {
        std::cout << row[0] << ' ' << row[1] << '\n';
    }

    const Matrix<2, 2> step{{{1, 1}, {1, 0}}};
    Matrix<2, 2> power{{{1, 0}, {0, 1}}};
    for (int count = 0; count < 70; ++count) {
        power = power * step;
    }
    std::cout << "fibonacci(70) = " << power[0][1] << '\n';
}
