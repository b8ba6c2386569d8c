import std.stdio;

void main(string[] arguments)
{
    foreach (index, argument; arguments[1 .. $])
        writefln("argument %d: [%s]", index + 1, argument);
    int number;
    foreach (line; stdin.byLine)
        writefln("line %d: [%s]", ++number, line);
}
