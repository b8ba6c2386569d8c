#include <stdint.h>
#include <stdio.h>

/* A big number is an array of groups of nine digits, the least first. */
enum { BASE = 1000000000, MAX_GROUPS = 8 };

static void print_factorial(unsigned number) {
    uint64_t groups[MAX_GROUPS] = {1};
    int used = 1;
    for (unsigned factor = 2; factor <= number; factor++) {
        uint64_t carry = 0;
        for (int index = 0; index < used; index++) {
            carry += groups[index] * factor;
            groups[index] = carry % BASE;
            carry /= BASE;
        }
        if (carry > 0) {
            groups[used++] = carry;
        }
    }

    printf("%u! = %u", number, (unsigned)groups[used - 1]);
    for (int index = used - 2; index >= 0; index--) {
        printf("%09u", (unsigned)groups[index]);
    }
    putchar('\n');
}

int main(void) {
    print_factorial(5);
    print_factorial(25);
    print_factorial(50);
    return 0;
}
