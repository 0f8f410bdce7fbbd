/* Where writers go on and where readers begin: resume URL. Every step has
 * another shape than the one before. */
#include "check.h"

static void write_steps(const char *url, panta_resume resume, int64_t after,
                        int64_t first, int steps)
{
    static const double data[16] = {0};
    panta_writer *out;
    panta_variable u;
    int64_t shape[1] = {1};
    panta_writer_options options = panta_default_writer_options();
    options.resume = resume;
    options.resume_step = after;
    CHECK(panta_writer_open(url, NULL, &options, &out));
    CHECK(panta_writer_set_deadline(out, 60000));
    EXPECT(PANTA_ERROR_ARGUMENT,
           panta_writer_set_deadline(out, PANTA_CONFIGURED));
    panta_definition definition = panta_global("u", PANTA_F64, 1, shape);
    CHECK(panta_define(out, &definition, &u));
    for (int i = 0; i < steps; i++) {
        int64_t number = -1;
        shape[0] = first + i + 1;
        CHECK(panta_set_shape(out, u, shape));
        CHECK(panta_begin_step(out, (double)(first + i), &number));
        THAT(number == first + i);
        panta_buffer buffer = panta_dense_const(data, PANTA_F64, 1, shape);
        CHECK(panta_put(out, u, NULL, &buffer));
        CHECK(panta_end_step(out, NULL));
    }
    CHECK(panta_writer_close(out));
}

/* The first step that a reader gets, and how many there are. */
static void read_from(const char *url, panta_reader_options options,
                      int64_t first, int64_t steps, int64_t epoch_of_last)
{
    panta_reader *in;
    panta_step *step;
    int64_t number = first;
    panta_step_info info = PANTA_SIZED(panta_step_info);
    CHECK(panta_reader_open(url, NULL, &options, &in));
    while (panta_next_step(in, 60000, &step) == PANTA_OK) {
        panta_variable_info u = PANTA_SIZED(panta_variable_info);
        CHECK(panta_step_describe(step, &info));
        CHECK(panta_find_variable(step, "u", &u));
        THAT(info.number == number && info.time == (double)number);
        THAT(u.shape[0] == number + 1);
        number++;
    }
    THAT(number == first + steps && info.epoch == epoch_of_last);
    CHECK(panta_reader_close(in));
}

static void read_everywhere(const char *url)
{
    panta_reader_options options = panta_default_reader_options();
    read_from(url, options, 0, 4, 1);
    options.start = PANTA_START_LATEST;
    read_from(url, options, 3, 1, 1);
    options.start = PANTA_START_AT;
    options.start_step = 2;
    read_from(url, options, 2, 2, 1);
    options.start = PANTA_START_AFTER;
    options.start_step = 0;
    read_from(url, options, 1, 3, 1);
    options.start = PANTA_START_AT_TIME;
    options.start_time = 1.5;
    read_from(url, options, 2, 2, 1);
    options.start = PANTA_START_CURSOR;
    options.cursor = "nobody committed this";
    read_from(url, options, 0, 4, 1);
    panta_reader *in;
    options.cursor = NULL;
    EXPECT(PANTA_ERROR_NULL, panta_reader_open(url, NULL, &options, &in));
    options.start = PANTA_START_AT;
    options.start_step = -1;
    EXPECT(PANTA_ERROR_ARGUMENT, panta_reader_open(url, NULL, &options, &in));
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    panta_reader_options oldest = panta_default_reader_options();
    write_steps(argv[1], PANTA_RESUME_FRESH, 0, 0, 4);
    read_everywhere(argv[1]);
    write_steps(argv[1], PANTA_RESUME_AFTER, 1, 2, 1);
    read_from(argv[1], oldest, 0, 3, 2);
    write_steps(argv[1], PANTA_RESUME_LAST, 0, 3, 2);
    read_from(argv[1], oldest, 0, 5, 3);
    write_steps(argv[1], PANTA_RESUME_FRESH, 0, 0, 1);
    read_from(argv[1], oldest, 0, 1, 1);
    return 0;
}
