import std.algorithm : levenshteinDistance;
import std.array : split;
import std.stdio;

void main()
{
    foreach (line; stdin.byLine)
    {
        auto words = line.split;
        writeln(words[0], " ", words[1], " ", levenshteinDistance(words[0], words[1]));
    }
}
