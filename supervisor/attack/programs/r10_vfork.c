/* The parent of a vfork sleeps deep in the kernel; the child ignores what it can. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
    for (int number = 1; number < 65; number++) signal(number, SIG_IGN);
    setsid();
    for (int depth = 0; depth < 20; depth++)
        if (vfork() != 0) break;
    for (;;) pause();
    puts("ESCAPED");
}
