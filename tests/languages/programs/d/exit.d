import core.stdc.stdlib : exit;
import std.stdio;

void main()
{
    writeln("leaving");
    stderr.writeln("so long");
    exit(7);
}
