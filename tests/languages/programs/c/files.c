#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *open_file(const char *name, const char *mode) {
    FILE *file = fopen(name, mode);
    if (file == NULL) {
        perror(name);
        exit(EXIT_FAILURE);
    }
    return file;
}

int main(void) {
    FILE *input = open_file("input.txt", "r");
    FILE *output = open_file("output.txt", "w");
    char line[256];
    int count = 0;
    while (fgets(line, sizeof line, input) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        fprintf(output, "%d: %s\n", ++count, line);
    }
    fclose(input);
    fclose(output);
    printf("%d lines\n", count);
    return 0;
}
