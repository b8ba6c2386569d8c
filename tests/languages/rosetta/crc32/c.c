#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t table[256];

static void fill_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t entry = byte;
        for (int bit = 0; bit < 8; bit++) {
            entry = (entry >> 1) ^ (entry & 1 ? 0xEDB88320u : 0);
        }
        table[byte] = entry;
    }
}

static uint32_t crc32(const char *text) {
    uint32_t crc = UINT32_MAX;
    for (const unsigned char *byte = (const unsigned char *)text; *byte != '\0'; byte++) {
        crc = (crc >> 8) ^ table[(crc ^ *byte) & 0xFF];
    }
    return ~crc;
}

int main(void) {
    fill_table();
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, stdin) != -1) {
        line[strcspn(line, "\n")] = '\0';
        printf("%08x\n", (unsigned)crc32(line));
    }
    free(line);
    return 0;
}
