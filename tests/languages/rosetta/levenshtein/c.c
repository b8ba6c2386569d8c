#include <stdio.h>
#include <string.h>

enum { MAX_LETTERS = 63 };

static int smaller(int a, int b) {
    return a < b ? a : b;
}

static int distance(const char *source, const char *target) {
    size_t width = strlen(target);
    int row[MAX_LETTERS + 1];
    for (size_t column = 0; column <= width; column++) {
        row[column] = (int)column;
    }
    for (size_t index = 0; source[index] != '\0'; index++) {
        int diagonal = row[0]++;
        for (size_t column = 1; column <= width; column++) {
            int replaced = diagonal + (source[index] != target[column - 1]);
            diagonal = row[column];
            row[column] = smaller(replaced, smaller(row[column], row[column - 1]) + 1);
        }
    }
    return row[width];
}

int main(void) {
    char source[MAX_LETTERS + 1];
    char target[MAX_LETTERS + 1];
    while (scanf("%63s %63s", source, target) == 2) {
        printf("%s %s %d\n", source, target, distance(source, target));
    }
    return 0;
}
