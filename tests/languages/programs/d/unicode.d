import std.file : write;
import std.range : walkLength;
import std.stdio : writeln;

void main()
{
    immutable greeting = "Grüße, 世界 🌍";
    writeln(greeting);
    writeln(greeting.walkLength, " code points");
    write("grüße 世界.txt", greeting ~ "\n");
}
