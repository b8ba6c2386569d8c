import std.algorithm : any;
import std.math : abs;
import std.range : enumerate;
import std.stdio : writefln;

int solutions(int size, const int[] placed = [])
{
    const row = cast(int) placed.length;
    if (row == size)
        return 1;
    int found;
    foreach (column; 0 .. size)
        if (!placed.enumerate!int.any!(above => above.value == column || abs(above.value - column) == row - above.index))
            found += solutions(size, placed ~ column);
    return found;
}

void main()
{
    foreach (size; 1 .. 9)
        writefln("%d queens: %d", size, solutions(size));
}
