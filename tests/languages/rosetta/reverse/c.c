#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_reversed(const char *line) {
    size_t end = strlen(line);
    while (end > 0) {
        size_t start = end - 1;
        /* Go back to the first byte of the code point: the others begin with the bits 10. */
        while (start > 0 && (line[start] & 0xC0) == 0x80) {
            start--;
        }
        fwrite(line + start, 1, end - start, stdout);
        end = start;
    }
    putchar('\n');
}

int main(void) {
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, stdin) != -1) {
        line[strcspn(line, "\n")] = '\0';
        print_reversed(line);
    }
    free(line);
    return 0;
}
