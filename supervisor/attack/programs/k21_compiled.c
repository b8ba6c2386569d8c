/* A compiled program, and what it execs, inherits nothing but the three descriptors either. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **arguments) {
    int open_ones = 0;
    for (int fd = 0; fd < 70000; fd++)
        if (fcntl(fd, F_GETFD) >= 0) open_ones++, open_ones += fd > 2 ? 100 : 0;
    if (open_ones != 3) {
        printf("ESCAPED: descriptors %d\n", open_ones);
        return 1;
    }
    if (count == 1) execl("/proc/self/exe", "again", "again", (char *)NULL);
    puts(count == 2 ? "CONTAINED" : "ESCAPED: exec failed");
    return count != 2;
}
