/* Calls work() and says what a call took of the calling thread's CPU time. Each line "THREADS CALLS BATCHES" on standard input is
 * a phase: every thread warms up with one batch, then times the others. Each phase is answered by one line of JSON. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MOST 16
#define BATCHES_MOST 4096

int work(int x);
/* Of a recorder that is compiled in: how many records the calling thread wrote so far. */
__attribute__((weak)) long recorded(void);

typedef struct worker {
    pthread_t thread;
    long sum, recorded;
    double ns[BATCHES_MOST]; /* a call */
} worker;

static worker workers[THREADS_MOST];
static long calls, batches;
static pthread_barrier_t together;

static long clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static long batch(void)
{
    long sum = 0;
    for (long i = 0; i < calls; i++) sum += work((int)(i & 0xFFFF));
    return sum;
}

static void *run(void *argument)
{
    worker *w = argument;
    w->sum = batch();
    pthread_barrier_wait(&together);
    for (long b = 0; b < batches; b++) {
        long start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        w->sum += batch();
        w->ns[b] = (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / (double)calls;
    }
    w->recorded = recorded ? recorded() : 0;
    return NULL;
}

int main(void)
{
    long threads;
    printf("{\"pid\": %d, \"work\": %lu}\n", (int)getpid(), (unsigned long)work);
    fflush(stdout);
    while (scanf("%ld %ld %ld", &threads, &calls, &batches) == 3) {
        if (threads < 1 || threads > THREADS_MOST || batches < 1 || batches > BATCHES_MOST) return 2;
        pthread_barrier_init(&together, NULL, (unsigned)threads);
        long start = clock_ns(CLOCK_MONOTONIC), sum = 0, records = 0;
        for (long i = 0; i < threads; i++) pthread_create(&workers[i].thread, NULL, run, &workers[i]);
        for (long i = 0; i < threads; i++) pthread_join(workers[i].thread, NULL);
        long wall = clock_ns(CLOCK_MONOTONIC) - start;
        printf("{\"ns\": [");
        for (long i = 0; i < threads; i++) {
            sum += workers[i].sum, records += workers[i].recorded;
            for (long b = 0; b < batches; b++) printf("%s%.4f", i + b ? ", " : "", workers[i].ns[b]);
        }
        printf("], \"wall_ns\": %ld, \"calls\": %ld, \"sum\": %ld, \"recorded\": %ld}\n", wall, threads * (batches + 1) * calls, sum, records);
        fflush(stdout);
        pthread_barrier_destroy(&together);
    }
    return 0;
}
