/* The program itself does what is killed: it is reported as SIGSYS. */
#include <stdio.h>
#include <sys/ptrace.h>

int main(void) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    puts("ESCAPED: still here");
    return 1;
}
