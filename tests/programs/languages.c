/* Writes or reads the stream of the scenario `languages`:
 *     languages write|read URL STEPS WRITERS
 * with its place in its group in the environment. What the stream holds is said in
 * tests/src/scenario/languages.rs, and the same in each language. */
#include "cells.h"

typedef struct array {
    const char *name, *dims[3];
    panta_dtype dtype;
    int32_t dimensions;
    int64_t shape[3];
} array;

static const array ARRAYS[] = {
    {"volume", {"z", "y", "x"}, PANTA_F64, 3, {4, 5, 6}},
    {"plane", {"y", "x", NULL}, PANTA_I32, 2, {6, 10, 1}},
    {"wave", {"x", NULL, NULL}, PANTA_COMPLEX128, 1, {8, 1, 1}},
    {"flags", {"y", "x", NULL}, PANTA_BOOL, 2, {4, 3, 1}},
};
enum { COUNT = 4, ROW = 3 };

static uint64_t steps, writers;

/* The cells of a box of an array, row by row. */
static void *cells(const array *a, uint64_t step, const int64_t start[3],
                   const int64_t count[3])
{
    char *made = (char *)calloc((size_t)(count[0] * count[1] * count[2]), CELL_BYTES);
    size_t at = 0;
    for (int64_t i = start[0]; i < start[0] + count[0]; i++)
        for (int64_t j = start[1]; j < start[1] + count[1]; j++)
            for (int64_t k = start[2]; k < start[2] + count[2]; k++) {
                int64_t index = (i * a->shape[1] + j) * a->shape[2] + k;
                at += cell(a->dtype, a->name, step, (uint64_t)index, made + at);
            }
    return made;
}

/* How many rows of `rows` a rank puts in a step. */
static int64_t rows_of(uint64_t rank, uint64_t step)
{
    return (int64_t)((2 * rank + step) % 4);
}

static void title_of(uint64_t step, char *title, size_t bytes)
{
    snprintf(title, bytes, "title %d \xcf\x89", (int)step);
}

static void write_stream(const char *url, panta_comm *comm)
{
    panta_writer *out;
    panta_variable arrays[COUNT], rows, count, title;
    int64_t joined[2] = {0, ROW};
    int rank, size;
    CHECK(panta_writer_open(url, comm, NULL, &out));
    CHECK(panta_writer_group(out, &rank, &size));
    THAT((uint64_t)size == writers);
    for (int i = 0; i < COUNT; i++) {
        const array *a = &ARRAYS[i];
        panta_definition d = panta_global(a->name, a->dtype, a->dimensions, a->shape);
        d.dimension_names = a->dims;
        d.unit = "K";
        CHECK(panta_define(out, &d, &arrays[i]));
    }
    panta_definition d = panta_joined("rows", PANTA_F64, 2, joined, 0);
    CHECK(panta_define(out, &d, &rows));
    d = panta_global_value("count", PANTA_I64);
    CHECK(panta_define(out, &d, &count));
    d = panta_global_value("title", PANTA_TEXT);
    CHECK(panta_define(out, &d, &title));
    CHECK(panta_set_attribute_i64(out, PANTA_STREAM, "answer", 42));
    for (uint64_t step = 0; step < steps; step++) {
        void *made[COUNT + 1];
        CHECK(panta_begin_step(out, 0.5 * (double)step, NULL));
        for (int i = 0; i < COUNT; i++) {
            const array *a = &ARRAYS[i];
            int64_t start[3] = {a->shape[0] * rank / size, 0, 0};
            int64_t next = a->shape[0] * (rank + 1) / size;
            int64_t box[3] = {next - start[0], a->shape[1], a->shape[2]};
            made[i] = cells(a, step, start, box);
            panta_buffer buffer = panta_dense(made[i], a->dtype, a->dimensions, box);
            CHECK(panta_put(out, arrays[i], start, &buffer));
        }
        int64_t first = 0, own[2] = {rows_of((uint64_t)rank, step), ROW};
        for (int other = 0; other < rank; other++)
            first += rows_of((uint64_t)other, step);
        const array all = {"rows", {NULL}, PANTA_F64, 2, {0, ROW, 1}};
        int64_t start[3] = {first, 0, 0}, box[3] = {own[0], ROW, 1};
        made[COUNT] = cells(&all, step, start, box);
        panta_buffer buffer = panta_dense(made[COUNT], PANTA_F64, 2, own);
        CHECK(panta_put(out, rows, NULL, &buffer));
        int64_t number;
        char text[32];
        cell(PANTA_I64, "count", step, 0, &number);
        title_of(step, text, sizeof text);
        if (rank == 0) {
            CHECK(panta_put_value(out, count, PANTA_I64, &number));
            CHECK(panta_put_text(out, title, text));
        }
        CHECK(panta_end_step(out, NULL));
        for (int i = 0; i <= COUNT; i++)
            free(made[i]);
    }
    CHECK(panta_writer_close(out));
}

/* Reads a box and compares every byte. */
static void check_box(panta_step *found, const array *a, uint64_t step,
                      const int64_t start[3], const int64_t count[3])
{
    size_t cells_read = (size_t)(count[0] * count[1] * count[2]);
    size_t bytes = cells_read * (size_t)panta_element_bytes(a->dtype);
    void *wanted = cells(a, step, start, count), *got = calloc(cells_read, CELL_BYTES);
    panta_selection box = panta_box(a->dimensions, start, count);
    panta_buffer buffer = panta_dense(got, a->dtype, a->dimensions, count);
    CHECK(panta_get(found, a->name, &box, &buffer));
    THAT(memcmp(wanted, got, bytes) == 0);
    free(wanted);
    free(got);
}

static void check_step(panta_step *found, uint64_t step)
{
    static const int64_t origin[3] = {0, 0, 0}, corner[3] = {1, 2, 1}, part[3] = {2, 3, 4};
    panta_step_info about = PANTA_SIZED(panta_step_info);
    CHECK(panta_step_describe(found, &about));
    THAT((uint64_t)about.number == step && about.time == 0.5 * (double)step);
    for (int i = 0; i < COUNT; i++) {
        const array *a = &ARRAYS[i];
        panta_variable_info info = PANTA_SIZED(panta_variable_info);
        CHECK(panta_find_variable(found, a->name, &info));
        THAT(info.dimensions == a->dimensions && strcmp(info.unit, "K") == 0);
        for (int32_t d = 0; d < a->dimensions; d++) {
            THAT(info.shape[d] == a->shape[d]);
            THAT(strcmp(info.dimension_names[d], a->dims[d]) == 0);
        }
        check_box(found, a, step, origin, a->shape);
    }
    check_box(found, &ARRAYS[0], step, corner, part);
    int64_t all = 0;
    for (uint64_t rank = 0; rank < writers; rank++)
        all += rows_of(rank, step);
    const array rows = {"rows", {NULL}, PANTA_F64, 2, {0, ROW, 1}};
    int64_t box[3] = {all, ROW, 1};
    check_box(found, &rows, step, origin, box);
    int64_t number, wanted;
    const char *text;
    char title[32];
    cell(PANTA_I64, "count", step, 0, &wanted);
    CHECK(panta_get_value(found, "count", PANTA_I64, &number));
    THAT(number == wanted);
    title_of(step, title, sizeof title);
    CHECK(panta_get_text(found, "title", 0, &text, NULL));
    THAT(strcmp(text, title) == 0);
    panta_attribute answer = PANTA_SIZED(panta_attribute);
    CHECK(panta_find_attribute(found, NULL, "answer", &answer));
    THAT(answer.dtype == PANTA_I64 && answer.i64s[0] == 42);
}

static void read_stream(const char *url, panta_comm *comm)
{
    panta_reader *in;
    panta_step *found;
    panta_status status;
    uint64_t step = 0;
    CHECK(panta_reader_open(url, comm, NULL, &in));
    while ((status = panta_next_step(in, PANTA_CONFIGURED, &found)) == PANTA_OK)
        check_step(found, step++);
    EXPECT(PANTA_END_OF_STREAM, status);
    THAT(step == steps);
    CHECK(panta_reader_close(in));
}

int main(int argc, char **argv)
{
    panta_comm *comm;
    THAT(argc == 5);
    steps = strtoull(argv[3], NULL, 10);
    writers = strtoull(argv[4], NULL, 10);
    CHECK(panta_comm_procs(&comm));
    if (strcmp(argv[1], "write") == 0)
        write_stream(argv[2], comm);
    else
        read_stream(argv[2], comm);
    CHECK(panta_comm_close(comm));
    return 0;
}
