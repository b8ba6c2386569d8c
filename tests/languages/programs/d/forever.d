import core.thread : Thread;
import core.time : seconds;
import std.stdio;

void main()
{
    writeln("started");
    stdout.flush();
    for (;;)
        Thread.sleep(1.seconds);
}
