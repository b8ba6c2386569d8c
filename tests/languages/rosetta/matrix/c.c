#include <stdio.h>
#include <string.h>

static void product(int rows, int inner, int columns, long left[rows][inner], long right[inner][columns],
                    long result[rows][columns]) {
    for (int row = 0; row < rows; row++) {
        for (int column = 0; column < columns; column++) {
            result[row][column] = 0;
            for (int index = 0; index < inner; index++) {
                result[row][column] += left[row][index] * right[index][column];
            }
        }
    }
}

int main(void) {
    long left[2][3] = {{1, 2, 3}, {4, 5, 6}};
    long right[3][2] = {{7, 8}, {9, 10}, {11, 12}};
    long answer[2][2];
    product(2, 3, 2, left, right, answer);
    for (int row = 0; row < 2; row++) {
        printf("%ld %ld\n", answer[row][0], answer[row][1]);
    }

    long step[2][2] = {{1, 1}, {1, 0}};
    long power[2][2] = {{1, 0}, {0, 1}};
    for (int count = 0; count < 70; count++) {
        long next[2][2];
        product(2, 2, 2, power, step, next);
        memcpy(power, next, sizeof power);
    }
    printf("fibonacci(70) = %ld\n", power[0][1]);
    return 0;
}
