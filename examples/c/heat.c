/* heat: a simulation that somebody would really write, on as many ranks as
 * mpirun starts, and the 20 lines that stream it.
 *
 *     mpicc heat.c -lpanta -o heat
 *     mpirun -n 2 ./heat [STREAM [STEPS]]
 *
 * Heat spreads in a square plate, cut into bands of rows. Each rank keeps a
 * ghost row above and below its band, which are exchanged in every step and
 * not put. STREAM is a name or a URL, such as file:heat.panta. */
#include <panta_mpi.h>

enum { ROWS = 32, COLUMNS = 64 }; /* of one rank's band, without ghost rows */

static double plate[2][ROWS + 2][COLUMNS];

static void check(panta_status status)
{
    if (status == PANTA_OK)
        return;
    fprintf(stderr, "heat: %s\n", panta_error_message());
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static void exchange(double band[ROWS + 2][COLUMNS], int rank, int size)
{
    int above = rank > 0 ? rank - 1 : MPI_PROC_NULL;
    int below = rank < size - 1 ? rank + 1 : MPI_PROC_NULL;
    MPI_Sendrecv(band[1], COLUMNS, MPI_DOUBLE, above, 0, band[ROWS + 1],
                 COLUMNS, MPI_DOUBLE, below, 0, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    MPI_Sendrecv(band[ROWS], COLUMNS, MPI_DOUBLE, below, 1, band[0], COLUMNS,
                 MPI_DOUBLE, above, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static void spread(double now[ROWS + 2][COLUMNS], double next[ROWS + 2][COLUMNS])
{
    for (int y = 1; y <= ROWS; y++)
        for (int x = 0; x < COLUMNS; x++) {
            double west = now[y][x > 0 ? x - 1 : x];
            double east = now[y][x < COLUMNS - 1 ? x + 1 : x];
            next[y][x] = now[y][x] + 0.2 * (now[y - 1][x] + now[y + 1][x] +
                                            west + east - 4 * now[y][x]);
        }
}

int main(int argc, char **argv)
{
    int rank, size, steps = argc > 2 ? atoi(argv[2]) : 10;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (int x = 0; rank == 0 && x < COLUMNS; x++)
        plate[0][1][x] = plate[1][1][x] = 100.0;

    int64_t shape[2] = {(int64_t)size * ROWS, COLUMNS};
    int64_t start[2] = {(int64_t)rank * ROWS, 0}, count[2] = {ROWS, COLUMNS};
    int64_t memory[2] = {ROWS + 2, COLUMNS}, inner[2] = {1, 0};
    const char *names[2] = {"y", "x"};
    panta_comm *comm;
    panta_writer *out;
    panta_variable heat;
    check(panta_comm_mpi(MPI_COMM_WORLD, &comm));
    check(panta_writer_open(argc > 1 ? argv[1] : "heat", comm, NULL, &out));
    check(panta_comm_close(comm));
    panta_definition definition = panta_global("heat", PANTA_F64, 2, shape);
    definition.dimension_names = names;
    definition.unit = "K";
    check(panta_define(out, &definition, &heat));

    for (int step = 0; step < steps; step++) {
        double(*now)[COLUMNS] = plate[step % 2];
        exchange(now, rank, size);
        spread(now, plate[(step + 1) % 2]);
        check(panta_begin_step(out, 0.2 * step, NULL));
        panta_buffer band = panta_ghosted(now, PANTA_F64, 2, memory, inner, count);
        check(panta_put(out, heat, start, &band));
        check(panta_end_step(out, NULL));
    }
    check(panta_writer_close(out));
    MPI_Finalize();
    return 0;
}
