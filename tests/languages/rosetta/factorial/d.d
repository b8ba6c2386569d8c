import std.algorithm : fold, map;
import std.bigint : BigInt;
import std.range : iota;
import std.stdio : writefln;

void main()
{
    foreach (number; [5, 25, 50])
        writefln("%d! = %d", number, iota(1, number + 1).fold!((product, factor) => product * factor)(BigInt(1)));
}
