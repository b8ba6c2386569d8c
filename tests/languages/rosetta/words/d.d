import std.algorithm : multiSort, splitter;
import std.array : array;
import std.ascii : isAlpha;
import std.range : take;
import std.stdio;
import std.string : toLower;

void main()
{
    int[string] counts;
    foreach (line; stdin.byLineCopy)
        foreach (word; line.toLower.splitter!(character => !character.isAlpha))
            if (word.length)
                counts[word]++;

    auto words = counts.keys;
    words.multiSort!((a, b) => counts[a] > counts[b], (a, b) => a < b);
    foreach (word; words.take(10))
        writeln(counts[word], " ", word);
}
