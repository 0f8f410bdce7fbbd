/* The child of a fork is refused what is its parent's, and spoils none of it: forked URL. */
#include "check.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const int64_t shape[1] = {4};

static void put(panta_writer *out, panta_variable v, double value)
{
    static double data[4];
    panta_buffer buffer = panta_dense(data, PANTA_F64, 1, shape);
    for (int i = 0; i < 4; i++)
        data[i] = value;
    CHECK(panta_put(out, v, NULL, &buffer));
}

static void is(panta_step *step, double value)
{
    double got[4] = {0};
    panta_buffer into = panta_dense(got, PANTA_F64, 1, shape);
    CHECK(panta_get(step, "v", NULL, &into));
    THAT(got[0] == value && got[3] == value);
}

/* Does what a child that goes on unaware would do, and ends as one that cleans up. */
static void child(panta_writer *out, panta_reader *in, panta_step *held)
{
    const char *words = "this is the child of a fork";
    panta_step *step;
    REFUSED(PANTA_ERROR_REFUSED, words, panta_end_step(out, NULL));
    REFUSED(PANTA_ERROR_REFUSED, words, panta_progress(out));
    REFUSED(PANTA_ERROR_REFUSED, words, panta_next_step(in, 0, &step));
    REFUSED(PANTA_ERROR_REFUSED, words, panta_commit(in, held, "cursor"));
    CHECK(panta_step_close(held));
    CHECK(panta_reader_close(in));
    REFUSED(PANTA_ERROR_REFUSED, words, panta_writer_close(out));
    /* What it opens itself is its own. */
    CHECK(panta_writer_open("null:", NULL, NULL, &out));
    CHECK(panta_begin_step(out, 0.0, NULL));
    CHECK(panta_end_step(out, NULL));
    CHECK(panta_writer_close(out));
}

int main(int argc, char **argv)
{
    panta_writer *out;
    panta_reader *in;
    panta_step *held, *step;
    panta_variable v;
    panta_definition definition = panta_global("v", PANTA_F64, 1, shape);
    int status = -1;
    if (argc < 2)
        return 2;
    CHECK(panta_writer_open(argv[1], NULL, NULL, &out));
    CHECK(panta_define(out, &definition, &v));
    CHECK(panta_reader_open(argv[1], NULL, NULL, &in));
    CHECK(panta_begin_step(out, 0.0, NULL));
    put(out, v, 1);
    CHECK(panta_end_step(out, NULL));
    CHECK(panta_next_step(in, PANTA_CONFIGURED, &held));
    CHECK(panta_step_detach(held));
    CHECK(panta_begin_step(out, 1.0, NULL));
    put(out, v, 2);
    fflush(NULL);
    pid_t other = fork();
    if (other == 0) {
        child(out, in, held);
        exit(0);
    }
    THAT(other > 0 && waitpid(other, &status, 0) == other);
    THAT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    /* The parent goes on where it was: with its step, and with what it holds. */
    CHECK(panta_end_step(out, NULL));
    for (int n = 2; n < 5; n++) {
        CHECK(panta_next_step(in, PANTA_CONFIGURED, &step));
        is(step, n);
        CHECK(panta_begin_step(out, n, NULL));
        put(out, v, n + 1);
        CHECK(panta_end_step(out, NULL));
    }
    is(held, 1);
    CHECK(panta_step_close(held));
    panta_reader *late;
    CHECK(panta_reader_open(argv[1], NULL, NULL, &late));
    CHECK(panta_reader_close(late));
    CHECK(panta_reader_close(in));
    CHECK(panta_writer_close(out));
    return 0;
}
