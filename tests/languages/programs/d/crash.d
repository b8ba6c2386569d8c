import std.stdio;

int divide(int dividend, int divisor)
{
    if (divisor == 0)
        throw new Exception("boom");
    return dividend / divisor;
}

void main()
{
    writeln("before");
    stdout.flush();
    writeln(divide(1, 0));
}
