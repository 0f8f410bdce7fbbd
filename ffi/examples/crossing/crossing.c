/* Times put and get of 1 KiB through C; see main.rs. Prints nanoseconds of both. */
#define _POSIX_C_SOURCE 199309L
#include <panta.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { CELLS = 128, CALLS = 200, ROUNDS = 200 };

static double field[CELLS];
static const int64_t count[1] = {CELLS};

static void check(panta_status status)
{
    if (status == PANTA_OK)
        return;
    fprintf(stderr, "%s\n", panta_error_message());
    exit(1);
}

static double now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

/* The shorter of two times; 0 is none. */
static double best(double one, double other)
{
    return one > 0 && one < other ? one : other;
}

/* What is timed, and counted by its name. */
void crossing_puts(panta_writer *out, panta_variable u)
{
    for (int i = 0; i < CALLS; i++) {
        panta_buffer buffer = panta_dense(field, PANTA_F64, 1, count);
        check(panta_put(out, u, NULL, &buffer));
    }
}

void crossing_gets(panta_step *step)
{
    for (int i = 0; i < CALLS; i++) {
        panta_buffer buffer = panta_dense(field, PANTA_F64, 1, count);
        panta_selection block = panta_block(0);
        check(panta_get(step, "u", &block, &buffer));
    }
}

int main(int argc, char **argv)
{
    panta_writer *out;
    panta_variable u;
    panta_reader *in;
    panta_step *step;
    panta_definition definition = panta_local("u", PANTA_F64, 1);
    if (argc < 2)
        return 2;
    check(panta_writer_open(argv[1], NULL, NULL, &out));
    check(panta_define(out, &definition, &u));
    double put = 0, get = 0;
    for (int round = 0; round < ROUNDS; round++) {
        check(panta_begin_step(out, 0, NULL));
        double began = now_ns();
        crossing_puts(out, u);
        put = best(put, (now_ns() - began) / CALLS);
        check(panta_end_step(out, NULL));
    }
    check(panta_writer_close(out));
    check(panta_reader_open(argv[1], NULL, NULL, &in));
    check(panta_next_step(in, PANTA_CONFIGURED, &step));
    for (int round = 0; round < ROUNDS; round++) {
        double began = now_ns();
        crossing_gets(step);
        get = best(get, (now_ns() - began) / CALLS);
    }
    check(panta_reader_close(in));
    printf("%.0f %.0f\n", put, get);
    return 0;
}
