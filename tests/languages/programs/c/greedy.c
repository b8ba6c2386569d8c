#include <stdlib.h>
#include <string.h>

/* Volatile, or the compiler sees that nobody reads what is written. */
static char *volatile newest;

int main(void) {
    const size_t size = 16 << 20;
    while ((newest = malloc(size)) != NULL) {
        memset(newest, 1, size);
    }
    return EXIT_FAILURE;
}
