#include <signal.h>
#include <stdio.h>

int main(void) {
    puts("here");
    fflush(stdout);
    signal(SIGSEGV, SIG_DFL);
    *(volatile int *)8 = 1;
    puts("ESCAPED: went on");
}
