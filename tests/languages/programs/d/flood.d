import std.stdio;

void main()
{
    for (long number = 1;; number++)
        writeln("line ", number);
}
