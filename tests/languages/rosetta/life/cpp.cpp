#include <iostream>
#include <string>
#include <vector>

using Grid = std::vector<std::string>;

int neighbours(const Grid& grid, std::size_t row, std::size_t column) {
    const auto height = grid.size();
    const auto width = grid.front().size();
    int count = 0;
    for (const auto down : {height - 1, height, height + 1}) {
        for (const auto right : {width - 1, width, width + 1}) {
            const bool self = down == height && right == width;
            count += !self && grid[(row + down) % height][(column + right) % width] == '#';
        }
    }
    return count;
}

Grid step(const Grid& grid) {
    Grid next = grid;
    for (std::size_t row = 0; row < grid.size(); ++row) {
        for (std::size_t column = 0; column < grid[row].size(); ++column) {
            const int around = neighbours(grid, row, column);
            next[row][column] = around == 3 || (around == 2 && grid[row][column] == '#') ? '#' : '.';
        }
    }
    return next;
}

int main() {
    Grid grid;
    for (std::string line; std::getline(std::cin, line);) {
        grid.push_back(line);
    }
    for (int generation = 0; generation < 12; ++generation) {
        grid = step(grid);
    }
    for (const auto& row : grid) {
        std::cout << row << '\n';
    }
}
