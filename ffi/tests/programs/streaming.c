/* Two threads, coupled over a stream: what is put in each of the ways is got in each of
 * them: streaming URL. */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <pthread.h>

enum { STEPS = 6, ROWS = 40, COLUMNS = 300 };

static const char *url;
static const int64_t shape[2] = {ROWS, COLUMNS};
static int released;

static double cell(int step, int64_t row, int64_t column)
{
    return 1e5 * step + (double)(COLUMNS * row + column);
}

static void fill(int step, double *field)
{
    for (int64_t row = 0; row < ROWS; row++)
        for (int64_t column = 0; column < COLUMNS; column++)
            field[COLUMNS * row + column] = cell(step, row, column);
}

/* Memory goes back when it was lent, and not before the step's end. */
static void release(void *context, void *data)
{
    (void)context;
    free(data);
    released++;
}

static void *write_steps(void *nothing)
{
    static const char *const names[4] = {"captured", "copied", "span", "lent"};
    panta_variable variables[4];
    panta_writer *out;
    CHECK(panta_writer_open(url, NULL, NULL, &out));
    for (int i = 0; i < 4; i++) {
        panta_definition definition = panta_global(names[i], PANTA_F64, 2, shape);
        CHECK(panta_define(out, &definition, &variables[i]));
    }
    double *field = (double *)malloc(sizeof(double) * ROWS * COLUMNS);
    for (int step = 0; step < STEPS; step++) {
        double *lent = (double *)malloc(sizeof(double) * ROWS * COLUMNS);
        void *span;
        panta_buffer buffer = panta_dense(field, PANTA_F64, 2, shape);
        panta_buffer lends = panta_dense(lent, PANTA_F64, 2, shape);
        fill(step, field);
        fill(step, lent);
        panta_step_info info = PANTA_SIZED(panta_step_info);
        CHECK(panta_begin_step(out, 0.5 * step, NULL));
        CHECK(panta_describe_open_step(out, &info));
        THAT(info.number == step && info.epoch == 1 && info.time == 0.5 * step);
        CHECK(panta_put(out, variables[0], NULL, &buffer));
        CHECK(panta_put_copied(out, variables[1], NULL, &buffer));
        CHECK(panta_span(out, variables[2], PANTA_F64, NULL, shape, &span));
        fill(step, (double *)span);
        CHECK(panta_put_owned(out, variables[3], NULL, &lends, release, NULL));
        CHECK(panta_end_step(out, NULL));
    }
    uint64_t bytes = 0;
    CHECK(panta_writer_metadata_bytes(out, &bytes));
    THAT(bytes > 0);
    panta_step_info info = PANTA_SIZED(panta_step_info);
    EXPECT(PANTA_ERROR_NO_STEP, panta_describe_open_step(out, &info));
    CHECK(panta_writer_close(out));
    THAT(released == STEPS);
    free(field);
    return nothing;
}

static void check_box(int step, const double *got, const int64_t *start,
                      const int64_t *count, const int64_t *stride)
{
    for (int64_t row = 0; row < count[0]; row++)
        for (int64_t column = 0; column < count[1]; column++)
            THAT(got[count[1] * row + column] == cell(step, start[0] + stride[0] * row,
                                                      start[1] + stride[1] * column));
}

static void read_step(panta_step *step, int number)
{
    static double got[ROWS * COLUMNS], other[ROWS * COLUMNS];
    const int64_t corner[2] = {0, 0}, ones[2] = {1, 1};
    const int64_t start[2] = {3, 7}, count[2] = {11, 50}, stride[2] = {3, 5};
    panta_buffer all = panta_dense(got, PANTA_F64, 2, shape), view = PANTA_SIZED(panta_buffer);
    panta_buffer part = panta_dense(other, PANTA_F64, 2, count);
    panta_selection selection = panta_strided(2, start, count, stride);
    panta_batch *batch;
    panta_view *held;
    panta_status status;
    CHECK(panta_get(step, "captured", NULL, &all));
    check_box(number, got, corner, shape, ones);
    CHECK(panta_get(step, "copied", &selection, &part));
    check_box(number, other, start, count, stride);
    CHECK(panta_batch_open(step, &batch));
    CHECK(panta_batch_get(batch, "span", NULL, &all));
    CHECK(panta_batch_get(batch, "lent", &selection, &part));
    CHECK(panta_batch_finish(batch));
    check_box(number, got, corner, shape, ones);
    check_box(number, other, start, count, stride);
    status = panta_view_open(step, "lent", PANTA_F64, 0, &view, &held);
    if (status == PANTA_OK) {
        check_box(number, (const double *)view.data, corner, shape, ones);
        CHECK(panta_view_close(held));
    } else {
        EXPECT(PANTA_ERROR_UNSUPPORTED, status);
    }
}

/* Steps are sent along from the second on over tcp, since the selections were frozen;
 * over shared memory there is nothing to send. */
static void check_counts(panta_reader *in)
{
    panta_push_counts counts = PANTA_SIZED(panta_push_counts);
    panta_engine_info engine = PANTA_SIZED(panta_engine_info);
    uint64_t bytes = 0;
    CHECK(panta_reader_push_counts(in, &counts));
    CHECK(panta_reader_engine(in, &engine));
    if (strcmp(engine.transport, "tcp") == 0)
        THAT(counts.used > 0 && counts.used_bytes > counts.used);
    else
        THAT(counts.used == 0 && counts.used_bytes == 0);
    CHECK(panta_reader_metadata_bytes(in, &bytes));
    THAT(bytes > 0);
    bytes = 1;
    CHECK(panta_reader_fetched_bytes(in, &bytes));
    THAT(bytes != 1);
    REFUSED(PANTA_ERROR_NULL, "`bytes` is NULL", panta_reader_fetched_bytes(in, NULL));
    counts.size = 8;
    REFUSED(PANTA_ERROR_STRUCT_SIZE, "`counts` says its size is 8", panta_reader_push_counts(in, &counts));
}

int main(int argc, char **argv)
{
    pthread_t writer;
    panta_reader *in;
    panta_step *step, *kept = NULL;
    panta_status status;
    int steps = 0;
    if (argc < 2)
        return 2;
    url = argv[1];
    THAT(pthread_create(&writer, NULL, write_steps, NULL) == 0);
    CHECK(panta_reader_open(url, NULL, NULL, &in));
    CHECK(panta_freeze_selections(in));
    while ((status = panta_next_step(in, 60000, &step)) == PANTA_OK) {
        read_step(step, steps);
        if (steps == 1) {
            kept = step;
            CHECK(panta_step_detach(kept));
        }
        steps++;
    }
    EXPECT(PANTA_END_OF_STREAM, status);
    THAT(steps == STEPS);
    check_counts(in);
    read_step(kept, 1);
    CHECK(panta_step_close(kept));
    CHECK(panta_reader_close(in));
    THAT(pthread_join(writer, NULL) == 0);
    return 0;
}
