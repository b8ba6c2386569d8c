import std.algorithm : map;
import std.array : array;
import std.numeric : dotProduct;
import std.range : transposed;
import std.stdio : writefln, writeln;

alias Matrix = long[][];

Matrix product(Matrix left, Matrix right)
{
    auto columns = right.transposed.map!array.array;
    return left.map!(row => columns.map!(column => dotProduct(row, column)).array).array;
}

void main()
{
    foreach (row; product([[1, 2, 3], [4, 5, 6]], [[7, 8], [9, 10], [11, 12]]))
        writefln("%(%d %)", row);

    Matrix power = [[1, 0], [0, 1]];
    foreach (count; 0 .. 70)
        power = product(power, [[1, 1], [1, 0]]);
    writeln("fibonacci(70) = ", power[0][1]);
}
