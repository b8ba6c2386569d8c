#include <stdio.h>

int main(void) {
    puts("started");
    fflush(stdout);
    for (volatile unsigned turns = 0;; turns++) {
    }
}
