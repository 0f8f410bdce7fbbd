/* What a careless caller does is an error by name, never a crash: misuse URL. */
#include "check.h"

#include <signal.h>

static const int64_t shape[1] = {4};
static double data[4] = {1, 2, 3, 4};

static void nulls_and_sizes(const char *url)
{
    panta_writer *out = NULL;
    panta_step *step = NULL;
    panta_comm *comm = NULL;
    panta_writer_options options = panta_default_writer_options();
    REFUSED(PANTA_ERROR_NULL, "`name` is NULL", panta_writer_open(NULL, NULL, NULL, &out));
    REFUSED(PANTA_ERROR_NULL, "`writer` is NULL", panta_writer_open(url, NULL, NULL, NULL));
    REFUSED(PANTA_ERROR_NULL, "the writer is NULL", panta_writer_close(NULL));
    REFUSED(PANTA_ERROR_NULL, "the reader is NULL", panta_next_step(NULL, 0, &step));
    REFUSED(PANTA_ERROR_NULL, "the writer is NULL", panta_begin_step(NULL, 0, NULL));
    REFUSED(PANTA_ERROR_NULL, "the step is NULL", panta_get(NULL, "u", NULL, NULL));
    REFUSED(PANTA_ERROR_NULL, "NULL", panta_comm_from_vtable(NULL, &comm));
    options.size = 3;
    REFUSED(PANTA_ERROR_STRUCT_SIZE, "`options` says its size is 3; set it to sizeof(panta_writer_options)",
            panta_writer_open(url, NULL, &options, &out));
    options.size = (size_t)-1;
    REFUSED(PANTA_ERROR_STRUCT_SIZE, "`options`", panta_writer_open(url, NULL, &options, &out));
    options = panta_default_writer_options();
    options.resume = 77;
    REFUSED(PANTA_ERROR_ARGUMENT, "`options.resume` is 77",
            panta_writer_open(url, NULL, &options, &out));
    options = panta_default_writer_options();
    options.deadline_ms = -5;
    REFUSED(PANTA_ERROR_ARGUMENT, "`options.deadline_ms` is -5",
            panta_writer_open(url, NULL, &options, &out));
    REFUSED(PANTA_ERROR_ARGUMENT, "`name` is not UTF-8", panta_writer_open("\xff", NULL, NULL, &out));
    REFUSED(PANTA_ERROR_CONFIG, "file", panta_writer_open("fiel:x", NULL, NULL, &out));
    REFUSED(PANTA_ERROR_INVALID_HANDLE, "given as a writer is no handle",
            panta_writer_close((panta_writer *)(void *)data));
    REFUSED(PANTA_ERROR_INVALID_HANDLE, "no handle", panta_interrupt(data));
    THAT(out == NULL && comm == NULL);
    THAT(panta_error_status() == PANTA_ERROR_INVALID_HANDLE);
}

static void defining(panta_writer *out, panta_writer *other)
{
    panta_variable v, w;
    panta_definition d = panta_global("v", PANTA_F64, 1, shape);
    CHECK(panta_define(out, &d, &v));
    d.dtype = PANTA_F32;
    REFUSED(PANTA_ERROR_REDEFINED, "`v`", panta_define(out, &d, &w));
    THAT(strcmp(panta_error_variable(), "v") == 0);
    d.dtype = 99;
    REFUSED(PANTA_ERROR_ARGUMENT, "`definition.dtype` is 99", panta_define(out, &d, &w));
    d = panta_global("text", PANTA_TEXT, 1, shape);
    REFUSED(PANTA_ERROR_DEFINITION, "`text`", panta_define(out, &d, &w));
    d = panta_global(NULL, PANTA_F64, 1, shape);
    REFUSED(PANTA_ERROR_NULL, "`definition.name` is NULL", panta_define(out, &d, &w));
    d = panta_global("w", PANTA_F64, 17, NULL);
    REFUSED(PANTA_ERROR_ARGUMENT, "`definition.dimensions` is 17", panta_define(out, &d, &w));
    d = panta_global("w", PANTA_F64, 1, shape);
    d.shape[0] = -4;
    REFUSED(PANTA_ERROR_ARGUMENT, "`definition.shape` has -4", panta_define(out, &d, &w));
    d = panta_definition_of("w", PANTA_F64, 12, 1, shape);
    REFUSED(PANTA_ERROR_ARGUMENT, "`definition.kind` is 12", panta_define(out, &d, &w));
    d = panta_joined("w", PANTA_F64, 1, shape, 3);
    REFUSED(PANTA_ERROR_DEFINITION, "joins along dimension 3", panta_define(out, &d, &w));
    EXPECT(PANTA_ERROR_UNKNOWN_VARIABLE, panta_set_shape(other, v, shape));
    EXPECT(PANTA_ERROR_UNKNOWN_VARIABLE, panta_set_shape(out, v + 1000, shape));
    EXPECT(PANTA_ERROR_UNKNOWN_VARIABLE,
           panta_set_attribute_f64(out, v + 1000, "a", 1.0));
    REFUSED(PANTA_ERROR_NULL, "`shape` is NULL", panta_set_shape(out, v, NULL));
    REFUSED(PANTA_ERROR_NULL, "`value` is NULL", panta_set_attribute_text(out, v, "a", NULL));
}

static void never(void *context, void *memory)
{
    (void)memory;
    ++*(int *)context;
}

/* Each of these makes its step fail, and the next step works. */
static void putting(panta_writer *out)
{
    panta_variable v, flag;
    int released = 0;
    panta_definition d = panta_global("v", PANTA_F64, 1, shape);
    CHECK(panta_define(out, &d, &v));
    d = panta_global("flag", PANTA_BOOL, 1, shape);
    CHECK(panta_define(out, &d, &flag));
    panta_buffer good = panta_dense(data, PANTA_F64, 1, shape);
    EXPECT(PANTA_ERROR_NO_STEP, panta_put(out, v, NULL, &good));
    EXPECT(PANTA_ERROR_NO_STEP, panta_end_step(out, NULL));
    EXPECT(PANTA_ERROR_NO_STEP, panta_abort_step(out));
    for (int wrong = 0; wrong < 12; wrong++) {
        panta_buffer b = good;
        int64_t at = 0;
        panta_status expected = PANTA_ERROR_SHAPE;
        uint8_t flags[4] = {0, 1, 2, 1};
        const int64_t *start = &at;
        const char *words = "";
        panta_variable variable = v;
        CHECK(panta_begin_step(out, 0.0, NULL));
        EXPECT(PANTA_ERROR_STEP_OPEN, panta_begin_step(out, 0.0, NULL));
        switch (wrong) {
        case 0: b.dtype = PANTA_F32; expected = PANTA_ERROR_DTYPE; words = "f32"; break;
        case 1: b.dtype = PANTA_TEXT; expected = PANTA_ERROR_DTYPE; words = "panta_put_text"; break;
        case 2: at = 1; words = "4 cells from 1 reach outside dimension 0"; break;
        case 3: at = -1; expected = PANTA_ERROR_ARGUMENT; words = "`start` has -1"; break;
        case 4:
            b.dimensions = 2;
            b.count[1] = 1;
            b.strides_bytes[1] = 8;
            words = "2 counts, the variable has 1 dimensions";
            break;
        case 5: b.count[0] = -1; expected = PANTA_ERROR_ARGUMENT; words = "`buffer.count` has -1"; break;
        case 6: b.data = NULL; expected = PANTA_ERROR_NULL; words = "`buffer.data` is NULL"; break;
        case 7: b.space = PANTA_CUDA; expected = PANTA_ERROR_UNSUPPORTED; words = "`buffer.space` is a device's (Cuda)"; break;
        case 8: b.space = 9; expected = PANTA_ERROR_ARGUMENT; words = "`buffer.space` is 9"; break;
        case 9: b.size = 8; expected = PANTA_ERROR_STRUCT_SIZE; words = "`buffer` says its size is 8"; break;
        case 10: variable = v + 9; expected = PANTA_ERROR_UNKNOWN_VARIABLE; words = "the variable"; break;
        default:
            /* Found at the step's end, when the memory is looked at. */
            b = panta_dense(flags, PANTA_BOOL, 1, shape);
            CHECK(panta_put(out, flag, start, &b));
            REFUSED(PANTA_ERROR_DTYPE, "a byte of `flag` is no bool", panta_end_step(out, NULL));
            continue;
        }
        REFUSED(expected, words, panta_put(out, variable, start, &b));
        REFUSED(expected, words, panta_put_copied(out, variable, start, &b));
        REFUSED(expected, words,
                panta_put_owned(out, variable, start, &b, never, &released));
        THAT(released == 0);
        THAT(panta_end_step(out, NULL) != PANTA_OK);
        THAT(strstr(panta_error_message(), words));
        THAT(released == 0);
    }
    CHECK(panta_begin_step(out, 0.0, NULL));
    REFUSED(PANTA_ERROR_NULL, "`release` is NULL",
            panta_put_owned(out, v, NULL, &good, NULL, NULL));
    void *memory;
    EXPECT(PANTA_ERROR_UNSUPPORTED,
           panta_span(out, flag, PANTA_BOOL, NULL, shape, &memory));
    CHECK(panta_abort_step(out));
    /* An array without dimensions is no value, and a value no array. */
    panta_variable number;
    panta_buffer point = panta_dense(data, PANTA_F64, 0, NULL);
    d = panta_global_value("number", PANTA_F64);
    CHECK(panta_define(out, &d, &number));
    CHECK(panta_begin_step(out, 0.0, NULL));
    REFUSED(PANTA_ERROR_SHAPE, "is put as a value", panta_put(out, number, NULL, &point));
    REFUSED(PANTA_ERROR_SHAPE, "is put as a value",
            panta_span(out, number, PANTA_F64, NULL, shape, &memory));
    THAT(panta_end_step(out, NULL) != PANTA_OK);
    CHECK(panta_begin_step(out, 0.5, NULL));
    CHECK(panta_put(out, v, NULL, &good));
    CHECK(panta_end_step(out, NULL));
}

static void getting(panta_step *step)
{
    double got[4];
    int64_t start = 2, count = 3;
    const char *text;
    panta_variable_info info = PANTA_SIZED(panta_variable_info);
    panta_buffer b = panta_dense(got, PANTA_F64, 1, shape);
    panta_selection s = panta_box(1, &start, &count);
    panta_view *view = NULL;
    REFUSED(PANTA_ERROR_UNKNOWN_VARIABLE, "variable `w`", panta_get(step, "w", NULL, &b));
    THAT(strcmp(panta_error_variable(), "w") == 0 && panta_error_rank() == 0);
    THAT(panta_error_step() >= 0 && panta_error_stream()[0]);
    REFUSED(PANTA_ERROR_SELECTION, "outside", panta_get(step, "v", &s, &b));
    s.stride[0] = 0;
    REFUSED(PANTA_ERROR_ARGUMENT, "`selection.stride` has 0", panta_get(step, "v", &s, &b));
    s = panta_box(1, &start, NULL);
    REFUSED(PANTA_ERROR_SHAPE, "the buffer has [4] cells, the selection [2]", panta_get(step, "v", &s, &b));
    s = panta_block(7);
    REFUSED(PANTA_ERROR_NO_SUCH_BLOCK, "no block 7", panta_get(step, "v", &s, &b));
    s.block = -9;
    REFUSED(PANTA_ERROR_NO_SUCH_BLOCK, "no block -9", panta_get(step, "v", &s, &b));
    b.dtype = PANTA_I64;
    REFUSED(PANTA_ERROR_DTYPE, "i64", panta_get(step, "v", NULL, &b));
    b = panta_dense(got, PANTA_F64, 1, shape);
    b.strides_bytes[0] = 0; /* elements would overlap */
    REFUSED(PANTA_ERROR_SHAPE, "the buffer: strides", panta_get(step, "v", NULL, &b));
    b = panta_dense(got, PANTA_F64, 1, shape);
    b.space = PANTA_ROCM;
    REFUSED(PANTA_ERROR_UNSUPPORTED, "`buffer.space` is a device's (Rocm)", panta_get(step, "v", NULL, &b));
    EXPECT(PANTA_ERROR_SHAPE, panta_get_value(step, "v", PANTA_F64, got));
    EXPECT(PANTA_ERROR_DTYPE, panta_get_text(step, "v", 0, &text, NULL));
    info.size = 1;
    REFUSED(PANTA_ERROR_STRUCT_SIZE, "`info` says its size is 1", panta_find_variable(step, "v", &info));
    info.size = sizeof info;
    EXPECT(PANTA_ERROR_ARGUMENT, panta_variable_at(step, 99, &info));
    b = panta_dense(NULL, PANTA_F64, 1, shape);
    EXPECT(PANTA_ERROR_UNSUPPORTED,
           panta_view_open(step, "v", PANTA_F64, 0, &b, &view));
    THAT(view == NULL);
}

static panta_reader *interrupted;

static void on_signal(int number)
{
    (void)number;
    panta_interrupt(interrupted);
}

static void reading(const char *url, panta_writer *out)
{
    panta_reader *in;
    panta_step *step, *first;
    CHECK(panta_reader_open(url, NULL, NULL, &in));
    EXPECT(PANTA_ERROR_ARGUMENT, panta_next_step(in, -7, &step));
    CHECK(panta_next_step(in, PANTA_CONFIGURED, &step));
    getting(step);
    EXPECT(PANTA_ERROR_INVALID_HANDLE,
           panta_next_step((panta_reader *)(void *)step, 0, &first));
    first = step;
    EXPECT(PANTA_NOT_READY, panta_next_step(in, 0, &step));
    THAT(step == NULL);
    /* The step before was let go with the call, and says so. */
    panta_step_info info = PANTA_SIZED(panta_step_info);
    REFUSED(PANTA_ERROR_CLOSED_HANDLE, "the step was closed", panta_step_describe(first, &info));
    REFUSED(PANTA_ERROR_CLOSED_HANDLE, "the step was closed", panta_commit(in, first, "c"));
    /* A signal ends a wait, until the interrupt is taken back. */
    interrupted = in;
    signal(SIGUSR1, on_signal);
    raise(SIGUSR1);
    REFUSED(PANTA_ERROR_INTERRUPTED, "interrupted", panta_next_step(in, 60000, &step));
    CHECK(panta_clear_interrupt(in));
    EXPECT(PANTA_NOT_READY, panta_next_step(in, 0, &step));
    CHECK(panta_reader_close(in));
    REFUSED(PANTA_ERROR_CLOSED_HANDLE, "the reader was closed", panta_reader_close(in));
    EXPECT(PANTA_ERROR_CLOSED_HANDLE, panta_interrupt(in));
    REFUSED(PANTA_ERROR_CLOSED_HANDLE, "the reader was closed", panta_next_step(in, 0, &step));
    CHECK(panta_writer_close(out));
    REFUSED(PANTA_ERROR_CLOSED_HANDLE, "the writer was closed", panta_writer_close(out));
    REFUSED(PANTA_ERROR_CLOSED_HANDLE, "the writer was closed", panta_begin_step(out, 0.0, NULL));
}

/* A communicator that was closed, and a handle of another kind in its place. */
static void communicators(const char *url, panta_writer *other)
{
    panta_comm *comm;
    panta_reader *in;
    panta_writer *out;
    CHECK(panta_comm_solo(&comm));
    CHECK(panta_comm_close(comm));
    REFUSED(PANTA_ERROR_CLOSED_HANDLE, "the communicator was closed",
            panta_reader_open(url, comm, NULL, &in));
    REFUSED(PANTA_ERROR_INVALID_HANDLE, "given as a communicator is a handle of another kind",
            panta_writer_open(url, (panta_comm *)(void *)other, NULL, &out));
}

static void writer_held_by_another(const char *url)
{
    panta_writer *second;
    EXPECT(PANTA_ERROR_BUSY, panta_writer_open(url, NULL, NULL, &second));
}

int main(int argc, char **argv)
{
    panta_writer *out, *other;
    if (argc < 2)
        return 2;
    nulls_and_sizes(argv[1]);
    CHECK(panta_writer_open(argv[1], NULL, NULL, &out));
    CHECK(panta_writer_open("null:", NULL, NULL, &other));
    writer_held_by_another(argv[1]);
    communicators(argv[1], other);
    defining(out, other);
    putting(out);
    reading(argv[1], out);
    CHECK(panta_writer_close(other));
    return 0;
}
