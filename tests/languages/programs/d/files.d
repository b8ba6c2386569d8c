import std.stdio;

void main()
{
    auto output = File("output.txt", "w");
    int count;
    foreach (line; File("input.txt").byLine)
        output.writefln("%d: %s", ++count, line);
    writeln(count, " lines");
}
