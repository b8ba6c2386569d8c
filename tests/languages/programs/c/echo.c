#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char *argv[]) {
    for (int index = 1; index < argc; index++) {
        printf("argument %d: [%s]\n", index, argv[index]);
    }
    char *line = NULL;
    size_t capacity = 0;
    for (int number = 1; getline(&line, &capacity, stdin) != -1; number++) {
        line[strcspn(line, "\n")] = '\0';
        printf("line %d: [%s]\n", number, line);
    }
    free(line);
    return 0;
}
