#include <stdio.h>

int main(void) {
    for (long number = 1;; number++) {
        printf("line %ld\n", number);
    }
}
