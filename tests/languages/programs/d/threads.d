import std.algorithm : map, sum;
import std.array : array;
import std.parallelism : TaskPool;
import std.range : iota;
import std.stdio : writefln;

enum workers = 4;
enum limit = 100_000L;

long sumOfSquares(long first)
{
    return iota(first, limit + 1, workers).map!(n => n * n).sum;
}

void main()
{
    auto pool = new TaskPool(workers);
    scope (exit)
        pool.finish();
    auto parts = pool.amap!sumOfSquares(iota(1L, workers + 1L).array, 1);
    writefln("%d workers, total %d", parts.length, parts.sum);
}
