#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORKERS = 4, LIMIT = 100000 };

typedef struct {
    pthread_t thread;
    long first;
    long sum;
} Worker;

static void *sum_of_squares(void *argument) {
    Worker *worker = argument;
    for (long n = worker->first; n <= LIMIT; n += WORKERS) {
        worker->sum += n * n;
    }
    return NULL;
}

int main(void) {
    Worker workers[WORKERS];
    for (int index = 0; index < WORKERS; index++) {
        workers[index] = (Worker){.first = index + 1};
        if (pthread_create(&workers[index].thread, NULL, sum_of_squares, &workers[index]) != 0) {
            perror("pthread_create");
            return EXIT_FAILURE;
        }
    }
    long total = 0;
    for (int index = 0; index < WORKERS; index++) {
        pthread_join(workers[index].thread, NULL);
        total += workers[index].sum;
    }
    printf("%d workers, total %ld\n", WORKERS, total);
    return 0;
}
