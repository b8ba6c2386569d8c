#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WORDS = 1000, MAX_LETTERS = 32 };

typedef struct {
    char word[MAX_LETTERS];
    int count;
} Entry;

static Entry entries[MAX_WORDS];
static size_t used;

static void count_word(const char *word) {
    for (size_t index = 0; index < used; index++) {
        if (strcmp(entries[index].word, word) == 0) {
            entries[index].count++;
            return;
        }
    }
    if (used < MAX_WORDS) {
        strcpy(entries[used].word, word);
        entries[used++].count = 1;
    }
}

static int by_count_then_word(const void *left, const void *right) {
    const Entry *a = left;
    const Entry *b = right;
    return a->count != b->count ? b->count - a->count : strcmp(a->word, b->word);
}

int main(void) {
    char word[MAX_LETTERS];
    size_t length = 0;
    int character;
    do {
        character = getchar();
        if (character != EOF && isalpha(character)) {
            if (length < MAX_LETTERS - 1) {
                word[length++] = (char)tolower(character);
            }
        } else if (length > 0) {
            word[length] = '\0';
            count_word(word);
            length = 0;
        }
    } while (character != EOF);

    qsort(entries, used, sizeof entries[0], by_count_then_word);
    for (size_t index = 0; index < 10 && index < used; index++) {
        printf("%d %s\n", entries[index].count, entries[index].word);
    }
    return 0;
}
