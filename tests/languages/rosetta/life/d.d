import std.algorithm : map;
import std.array : array;
import std.stdio;

alias Grid = char[][];

int neighbours(const Grid grid, size_t row, size_t column)
{
    const height = grid.length, width = grid[0].length;
    int count;
    foreach (down; [height - 1, 0, 1])
        foreach (right; [width - 1, 0, 1])
            if ((down || right) && grid[(row + down) % height][(column + right) % width] == '#')
                count++;
    return count;
}

Grid step(const Grid grid)
{
    auto next = grid.map!(line => line.dup).array;
    foreach (row, line; grid)
        foreach (column, cell; line)
        {
            const around = grid.neighbours(row, column);
            next[row][column] = around == 3 || (around == 2 && cell == '#') ? '#' : '.';
        }
    return next;
}

void main()
{
    auto grid = stdin.byLineCopy!(char, char).array;
    foreach (generation; 0 .. 12)
        grid = grid.step;
    foreach (line; grid)
        writeln(line);
}
