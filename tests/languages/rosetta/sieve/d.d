import std.algorithm : filter, until;
import std.array : array;
import std.range : iota;
import std.stdio : writefln;

enum limit = 100_000;

void main()
{
    auto composite = new bool[limit];
    for (int candidate = 2; candidate * candidate < limit; candidate++)
        if (!composite[candidate])
            foreach (multiple; iota(candidate * candidate, limit, candidate))
                composite[multiple] = true;
    auto primes = iota(2, limit).filter!(number => !composite[number]).array;

    writefln("%(%d %)", primes.until!(prime => prime > 100));
    writefln("%d primes below %d, the last is %d", primes.length, limit, primes[$ - 1]);
}
