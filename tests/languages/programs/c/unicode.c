#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    const char *greeting = "Grüße, 世界 🌍";
    setlocale(LC_ALL, "");
    puts(greeting);
    printf("%zu code points\n", mbstowcs(NULL, greeting, 0));
    FILE *file = fopen("grüße 世界.txt", "w");
    if (file == NULL) {
        perror("fopen");
        return EXIT_FAILURE;
    }
    fprintf(file, "%s\n", greeting);
    return fclose(file);
}
