#include <stdio.h>

/* Sets of columns and diagonals are bits. */
static int solutions(unsigned all, unsigned columns, unsigned rising, unsigned falling) {
    if (columns == all) {
        return 1;
    }
    int found = 0;
    for (unsigned free = all & ~(columns | rising | falling); free != 0; free &= free - 1) {
        unsigned bit = free & -free;
        found += solutions(all, columns | bit, (rising | bit) << 1, (falling | bit) >> 1);
    }
    return found;
}

int main(void) {
    for (int size = 1; size <= 8; size++) {
        printf("%d queens: %d\n", size, solutions((1u << size) - 1, 0, 0, 0));
    }
    return 0;
}
