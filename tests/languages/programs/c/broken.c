#include <stdio.h>

int main(void) {
    puts("this is never printed");
    int answer = ; /* broken here */
    return answer;
}
