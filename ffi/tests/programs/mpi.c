/* Ranks of an MPI communicator write a stream together and read it again:
 *     mpirun -n 2 mpi URL [write|read]
 * Without the second argument both. */
#include <panta_mpi.h>

#include "check.h"

enum { ROWS = 4, COLUMNS = 3, STEPS = 5 };

static int rank, size;

static void write_stream(const char *url, panta_comm *comm)
{
    panta_writer *out;
    panta_variable u;
    int64_t shape[2] = {size * ROWS, COLUMNS}, start[2] = {rank * ROWS, 0};
    int64_t count[2] = {ROWS, COLUMNS};
    double field[ROWS * COLUMNS];
    int own = -1, group = -1;
    panta_definition definition = panta_global("u", PANTA_F64, 2, shape);
    CHECK(panta_writer_open(url, comm, NULL, &out));
    CHECK(panta_writer_group(out, &own, &group));
    THAT(own == rank && group == size);
    CHECK(panta_define(out, &definition, &u));
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < ROWS * COLUMNS; i++)
            field[i] = 1000.0 * step + rank * ROWS * COLUMNS + i;
        panta_buffer buffer = panta_dense(field, PANTA_F64, 2, count);
        CHECK(panta_begin_step(out, 0.1 * step, NULL));
        CHECK(panta_put(out, u, start, &buffer));
        CHECK(panta_end_step(out, NULL));
    }
    CHECK(panta_writer_close(out));
}

/* Each rank reads a share of the columns, which cuts across what was put. The
 * number of writers is found out from the shape. */
static void read_stream(const char *url, panta_comm *comm)
{
    panta_reader *in;
    panta_step *step;
    panta_status status;
    int steps = 0;
    CHECK(panta_reader_open(url, comm, NULL, &in));
    while ((status = panta_next_step(in, 60000, &step)) == PANTA_OK) {
        panta_variable_info info = PANTA_SIZED(panta_variable_info);
        CHECK(panta_find_variable(step, "u", &info));
        int64_t rows = info.shape[0];
        int64_t start[2] = {0, rank % COLUMNS}, count[2] = {rows, 1};
        panta_selection column = panta_box(2, start, count);
        double *got = (double *)calloc((size_t)rows, sizeof *got);
        panta_buffer buffer = panta_dense(got, PANTA_F64, 2, count);
        CHECK(panta_get(step, "u", &column, &buffer));
        for (int64_t row = 0; row < rows; row++)
            THAT(got[row] == 1000.0 * steps + (double)(row * COLUMNS + start[1]));
        free(got);
        steps++;
    }
    THAT(status == PANTA_END_OF_STREAM && steps == STEPS);
    CHECK(panta_reader_close(in));
}

/* Says which file the library was loaded from. */
static void say_library(void)
{
    char line[4096];
    FILE *maps = fopen("/proc/self/maps", "r");
    THAT(maps);
    while (fgets(line, sizeof line, maps)) {
        char *path = strchr(line, '/');
        if (path && strstr(path, "/libpanta.so")) {
            printf("library %s", path);
            break;
        }
    }
    fclose(maps);
}

int main(int argc, char **argv)
{
    panta_comm *comm, *half;
    panta_writer *out;
    MPI_Comm own = MPI_COMM_NULL;
    if (argc < 2)
        return 2;
    EXPECT(PANTA_ERROR_COMMUNICATOR, panta_comm_mpi(MPI_COMM_WORLD, &comm));
    THAT(strstr(panta_error_message(), "MPI_Init"));
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (rank == 0)
        say_library();
    CHECK(panta_comm_mpi(MPI_COMM_WORLD, &comm));
    if (argc < 3 || strcmp(argv[2], "write") == 0)
        write_stream(argv[1], comm);
    if (argc < 3 || strcmp(argv[2], "read") == 0)
        read_stream(argv[1], comm);
    /* A name that stands for another URL on one rank is an error on all. */
    EXPECT(PANTA_ERROR_CONFIG,
           panta_writer_open(rank ? "null:?limit=1MiB" : "null:", comm, NULL, &out));
    CHECK(panta_comm_close(comm));
    /* A part of the ranks; those outside have MPI_COMM_NULL and are told so. */
    MPI_Comm_split(MPI_COMM_WORLD, rank == 0 ? 0 : MPI_UNDEFINED, 0, &own);
    if (rank == 0) {
        CHECK(panta_comm_mpi(own, &half));
        CHECK(panta_writer_open("null:", half, NULL, &out));
        CHECK(panta_comm_close(half));
        CHECK(panta_writer_close(out));
        MPI_Comm_free(&own);
    } else {
        REFUSED(PANTA_ERROR_ARGUMENT, "`group` is MPI_COMM_NULL", panta_comm_mpi(own, &half));
    }
    if (size == 2) {
        MPI_Intercomm_create(MPI_COMM_SELF, 0, MPI_COMM_WORLD, 1 - rank, 7, &own);
        REFUSED(PANTA_ERROR_ARGUMENT, "`group` is an intercommunicator", panta_comm_mpi(own, &half));
        MPI_Comm_free(&own);
    }
#ifdef MPICH_VERSION /* whose handles are numbers, so that a freed one can be told */
    MPI_Comm_dup(MPI_COMM_WORLD, &own);
    MPI_Comm freed = own;
    MPI_Comm_free(&own);
    REFUSED(PANTA_ERROR_ARGUMENT, "`group` is no communicator of MPI: it was freed",
            panta_comm_mpi(freed, &half));
#endif
    MPI_Finalize();
    EXPECT(PANTA_ERROR_COMMUNICATOR, panta_comm_mpi(MPI_COMM_WORLD, &comm));
    return 0;
}
