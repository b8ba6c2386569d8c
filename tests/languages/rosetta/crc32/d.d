import std.ascii : LetterCase;
import std.digest : Order, toHexString;
import std.digest.crc : crc32Of;
import std.stdio;

void main()
{
    foreach (line; stdin.byLine)
        writeln(line.crc32Of.toHexString!(Order.decreasing, LetterCase.lower));
}
