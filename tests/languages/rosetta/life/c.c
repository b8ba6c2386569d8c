#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { MAX_SIZE = 64 };

typedef struct {
    int height;
    int width;
    bool alive[MAX_SIZE][MAX_SIZE];
} Grid;

static int neighbours(const Grid *grid, int row, int column) {
    int count = 0;
    for (int down = -1; down <= 1; down++) {
        for (int right = -1; right <= 1; right++) {
            int y = (row + down + grid->height) % grid->height;
            int x = (column + right + grid->width) % grid->width;
            count += (down != 0 || right != 0) && grid->alive[y][x];
        }
    }
    return count;
}

static Grid step(const Grid *grid) {
    Grid next = *grid;
    for (int row = 0; row < grid->height; row++) {
        for (int column = 0; column < grid->width; column++) {
            int around = neighbours(grid, row, column);
            next.alive[row][column] = around == 3 || (around == 2 && grid->alive[row][column]);
        }
    }
    return next;
}

int main(void) {
    Grid grid = {0};
    char line[MAX_SIZE + 1];
    while (grid.height < MAX_SIZE && scanf("%64s", line) == 1) {
        grid.width = (int)strlen(line);
        for (int column = 0; column < grid.width; column++) {
            grid.alive[grid.height][column] = line[column] == '#';
        }
        grid.height++;
    }
    for (int generation = 0; generation < 12; generation++) {
        grid = step(&grid);
    }
    for (int row = 0; row < grid.height; row++) {
        for (int column = 0; column < grid.width; column++) {
            putchar(grid.alive[row][column] ? '#' : '.');
        }
        putchar('\n');
    }
    return 0;
}
