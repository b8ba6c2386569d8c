#include <stdbool.h>
#include <stdio.h>

enum { LIMIT = 100000 };

int main(void) {
    static bool composite[LIMIT];
    int count = 0;
    int last = 0;
    for (int number = 2; number < LIMIT; number++) {
        if (composite[number]) {
            continue;
        }
        if (number < 100) {
            printf("%s%d", count == 0 ? "" : " ", number);
        }
        count++;
        last = number;
        for (long multiple = (long)number * number; multiple < LIMIT; multiple += number) {
            composite[multiple] = true;
        }
    }
    printf("\n%d primes below %d, the last is %d\n", count, LIMIT, last);
    return 0;
}
