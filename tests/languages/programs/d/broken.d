import std.stdio;

void main()
{
    writeln("this is never printed");
    int answer = "forty-two"; // broken here
    writeln(answer);
}
