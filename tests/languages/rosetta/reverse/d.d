import std.range : retro;
import std.stdio;

void main()
{
    // A string is a range of code points, whatever its bytes are.
    foreach (line; stdin.byLine)
        writeln(line.retro);
}
