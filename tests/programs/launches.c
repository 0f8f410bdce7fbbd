/* Two sides under MPI, a simulation and its analysis:
 *     launches sim|ana together|apart URL
 * `together` they are parts of one launch, each a communicator of its own, and go
 * through what that can bring; `apart` each has a launch, and one is coupled to the
 * other. In the URL, NAME stands for a stream's name. */
#include "cells.h"

#include <panta_mpi.h>

enum { ROWS = 12, COLUMNS = 5, STEPS = 4 };

static const char *pattern;

/* The URL of one of the streams. */
static const char *url_of(const char *name)
{
    static char url[4096];
    const char *from = pattern;
    size_t at = 0;
    while (*from && at + 256 < sizeof url) {
        if (strncmp(from, "NAME", 4) == 0) {
            at += (size_t)snprintf(url + at, 128, "%s", name);
            from += 4;
        } else {
            url[at++] = *from++;
        }
    }
    url[at] = '\0';
    return url;
}

static panta_comm *comm_of(MPI_Comm group)
{
    panta_comm *comm;
    CHECK(panta_comm_mpi(group, &comm));
    return comm;
}

/* A writer and its one variable. */
typedef struct output {
    panta_writer *out;
    panta_variable u;
    int rank, size;
} output;

static output open_output(const char *name, MPI_Comm group)
{
    static const int64_t shape[2] = {ROWS, COLUMNS};
    output o;
    panta_comm *comm = comm_of(group);
    panta_definition definition = panta_global("u", PANTA_F64, 2, shape);
    CHECK(panta_writer_open(url_of(name), comm, NULL, &o.out));
    CHECK(panta_comm_close(comm));
    CHECK(panta_writer_group(o.out, &o.rank, &o.size));
    CHECK(panta_define(o.out, &definition, &o.u));
    return o;
}

/* Puts a band of rows. */
static void put(output *o, uint64_t step)
{
    int64_t first = ROWS * o->rank / o->size, next = ROWS * (o->rank + 1) / o->size;
    int64_t start[2] = {first, 0}, count[2] = {next - first, COLUMNS};
    double band[ROWS * COLUMNS];
    for (int64_t i = 0; i < count[0] * COLUMNS; i++)
        cell(PANTA_F64, "u", step, (uint64_t)(first * COLUMNS + i), &band[i]);
    panta_buffer buffer = panta_dense(band, PANTA_F64, 2, count);
    CHECK(panta_begin_step(o->out, 0.5 * (double)step, NULL));
    CHECK(panta_put(o->out, o->u, start, &buffer));
    CHECK(panta_end_step(o->out, NULL));
}

static panta_reader *open_input(const char *name, MPI_Comm group)
{
    panta_reader *in;
    panta_comm *comm = comm_of(group);
    CHECK(panta_reader_open(url_of(name), comm, NULL, &in));
    CHECK(panta_comm_close(comm));
    return in;
}

/* Gets a band of columns, which cuts across what was put, and checks every cell. */
static void get(panta_reader *in, uint64_t number)
{
    int rank, size;
    panta_step *step;
    panta_step_info about = PANTA_SIZED(panta_step_info);
    CHECK(panta_reader_group(in, &rank, &size));
    CHECK(panta_next_step(in, PANTA_CONFIGURED, &step));
    CHECK(panta_step_describe(step, &about));
    THAT((uint64_t)about.number == number);
    int64_t first = COLUMNS * rank / size, next = COLUMNS * (rank + 1) / size;
    int64_t start[2] = {0, first}, count[2] = {ROWS, next - first};
    double got[ROWS * COLUMNS];
    panta_selection box = panta_box(2, start, count);
    panta_buffer buffer = panta_dense(got, PANTA_F64, 2, count);
    CHECK(panta_get(step, "u", &box, &buffer));
    for (int64_t y = 0; y < ROWS; y++)
        for (int64_t x = first; x < next; x++) {
            double wanted;
            cell(PANTA_F64, "u", number, (uint64_t)(y * COLUMNS + x), &wanted);
            THAT(got[y * count[1] + x - first] == wanted);
        }
    /* Let go of here, and not at the next step: its writer may be about to close. */
    CHECK(panta_step_close(step));
}

static void ends(panta_reader *in)
{
    panta_step *step;
    EXPECT(PANTA_END_OF_STREAM, panta_next_step(in, PANTA_CONFIGURED, &step));
    CHECK(panta_reader_close(in));
}

static void write_all(const char *name, MPI_Comm group)
{
    output o = open_output(name, group);
    for (uint64_t step = 0; step < STEPS; step++)
        put(&o, step);
    CHECK(panta_writer_close(o.out));
}

static void read_all(const char *name, MPI_Comm group)
{
    panta_reader *in = open_input(name, group);
    for (uint64_t step = 0; step < STEPS; step++)
        get(in, step);
    ends(in);
}

/* The ranks below `bound` have a stream; those outside never call, but for learning
 * that MPI_COMM_NULL is no group, and wait in MPI meanwhile. */
static void of_some(MPI_Comm side, int bound, void (*run)(const char *, MPI_Comm))
{
    int rank;
    MPI_Comm part;
    MPI_Comm_rank(side, &rank);
    MPI_Comm_split(side, rank < bound ? 0 : MPI_UNDEFINED, 0, &part);
    if (rank < bound) {
        run("part", part);
        MPI_Comm_free(&part);
    } else {
        panta_comm *none;
        EXPECT(PANTA_ERROR_ARGUMENT, panta_comm_mpi(part, &none));
        THAT(strstr(panta_error_message(), "`group` is MPI_COMM_NULL"));
    }
    MPI_Barrier(side);
}

/* Two disjoint communicators open the same two streams, each its writer and its
 * reader, in the other order. */
static void both_ways(MPI_Comm side)
{
    int rank, is_first;
    MPI_Comm half;
    MPI_Comm_rank(side, &rank);
    is_first = rank > 0;
    MPI_Comm_split(side, is_first, 0, &half);
    output o;
    panta_reader *in;
    if (is_first) {
        o = open_output("there", half);
        in = open_input("back", half);
    } else {
        in = open_input("there", half);
        o = open_output("back", half);
    }
    for (uint64_t step = 0; step < STEPS; step++) {
        if (is_first)
            put(&o, step);
        get(in, step);
        if (!is_first)
            put(&o, step);
    }
    CHECK(panta_writer_close(o.out));
    ends(in);
    MPI_Comm_free(&half);
}

/* MPI ends while a stream is open: what was opened goes on, and nothing opens. */
static void outlive_mpi(MPI_Comm side, int is_sim)
{
    panta_comm *none;
    if (is_sim) {
        output o = open_output("late", side);
        put(&o, 0);
        MPI_Finalize();
        put(&o, 1);
        CHECK(panta_writer_close(o.out));
    } else {
        panta_reader *in = open_input("late", side);
        get(in, 0);
        MPI_Finalize();
        get(in, 1);
        ends(in);
    }
    EXPECT(PANTA_ERROR_COMMUNICATOR, panta_comm_mpi(MPI_COMM_WORLD, &none));
    THAT(strstr(panta_error_message(), "finalised"));
}

int main(int argc, char **argv)
{
    int rank, is_sim;
    MPI_Comm side;
    THAT(argc == 4);
    is_sim = strcmp(argv[1], "sim") == 0;
    pattern = argv[3];
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (strcmp(argv[2], "apart") == 0) {
        (is_sim ? write_all : read_all)("live", MPI_COMM_WORLD);
        MPI_Finalize();
        return 0;
    }
    MPI_Comm_split(MPI_COMM_WORLD, is_sim, rank, &side);
    if (is_sim) {
        write_all("whole", side);
        of_some(side, 2, write_all);
        both_ways(side);
    } else {
        read_all("whole", side);
        of_some(side, 1, read_all);
    }
    outlive_mpi(side, is_sim);
    return 0;
}
