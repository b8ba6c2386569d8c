#include <stdio.h>
#include <stdlib.h>

static int divide(int dividend, int divisor) {
    if (divisor == 0) {
        fputs("boom\n", stderr);
        abort();
    }
    return dividend / divisor;
}

int main(void) {
    puts("before");
    fflush(stdout);
    printf("%d\n", divide(1, 0));
    return 0;
}
