/* gray_scott: the Gray-Scott system in three dimensions, in C under MPI, that sends
 * its fields to a stream. The same model as examples/gray_scott, bit for bit, cut
 * into slabs along z; what is said to Panta stands in open_stream and write_step.
 *
 *     mpicc -O2 -ffp-contract=off gray_scott.c -lpanta -o gray_scott
 *     mpirun -n 4 ./gray_scott [SIZE [STEPS [OUTPUT_EVERY [STREAM]]]]
 *
 * Where the stream goes is not this program's business: PANTA_URL_GRAY_SCOTT or
 * panta.toml says it. */
#include <panta_mpi.h>

static const double DU = 0.6, DV = 0.3, FEED = 0.025, KILL = 0.055, DT = 1.0;
static const double NOISE = 0.001;
static const uint64_t SEED = 1;

/* u and v on this rank's slab, with a layer of ghost cells all around. */
typedef struct {
    int64_t cells;        /* along a side of the whole cube */
    int64_t first, count; /* this rank's layers of z */
    double *u, *v, *next_u, *next_v;
} model;

/* ---- What is said to Panta ---- */

static void check(panta_status status)
{
    if (status == PANTA_OK)
        return;
    fprintf(stderr, "gray_scott: %s\n", panta_error_message());
    MPI_Abort(MPI_COMM_WORLD, 1);
}

typedef struct {
    panta_writer *writer;
    panta_variable u, v;
} stream;

static stream open_stream(const char *name, int64_t cells)
{
    stream out;
    panta_comm *comm;
    int64_t shape[3] = {cells, cells, cells};
    const char *axes[3] = {"z", "y", "x"};
    panta_definition u = panta_global("u", PANTA_F64, 3, shape);
    panta_definition v = panta_global("v", PANTA_F64, 3, shape);
    u.dimension_names = v.dimension_names = axes;
    u.unit = v.unit = "1";
    check(panta_comm_mpi(MPI_COMM_WORLD, &comm));
    check(panta_writer_open(name, comm, NULL, &out.writer));
    check(panta_comm_close(comm));
    check(panta_define(out.writer, &u, &out.u));
    check(panta_define(out.writer, &v, &out.v));
    return out;
}

static void write_step(stream out, const model *m, int64_t step)
{
    int64_t start[3] = {m->first, 0, 0}, count[3] = {m->count, m->cells, m->cells};
    int64_t memory[3] = {m->count + 2, m->cells + 2, m->cells + 2}, inner[3] = {1, 1, 1};
    panta_buffer u = panta_ghosted(m->u, PANTA_F64, 3, memory, inner, count);
    panta_buffer v = panta_ghosted(m->v, PANTA_F64, 3, memory, inner, count);
    check(panta_begin_step(out.writer, (double)step * DT, NULL));
    check(panta_put(out.writer, out.u, start, &u));
    check(panta_put(out.writer, out.v, start, &v));
    check(panta_end_step(out.writer, NULL));
}

/* ---- The model ---- */

static int64_t at(const model *m, int64_t z, int64_t y, int64_t x)
{
    return (z * (m->cells + 2) + y) * (m->cells + 2) + x;
}

/* A bijection on 64 bits under which neighbouring inputs have unrelated outputs:
 * the finaliser of SplitMix64. */
static uint64_t mix(uint64_t value)
{
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

/* 53 bits of `hash` as a number in [-1, 1). */
static double unit(uint64_t hash)
{
    return (double)(hash >> 11) * (2.0 / 9007199254740992.0) - 1.0;
}

/* The initial state: u = 1 and v = 0, but for a cube in the centre. */
static model make(int64_t cells, int rank, int size)
{
    int64_t half = cells / 10 > 4 ? cells / 10 : 4;
    model m = {cells, cells * rank / size, 0, NULL, NULL, NULL, NULL};
    m.count = cells * (rank + 1) / size - m.first;
    int64_t all = (m.count + 2) * (cells + 2) * (cells + 2);
    double *fields = calloc((size_t)(4 * all), sizeof *fields);
    if (half > cells / 2)
        half = cells / 2;
    if (m.count < 1 || !fields) {
        fprintf(stderr, "gray_scott: %lld cells are too few or too many\n", (long long)cells);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    m.u = fields;
    m.v = fields + all;
    m.next_u = fields + 2 * all;
    m.next_v = fields + 3 * all;
    for (int64_t i = 0; i < all; i++)
        m.u[i] = 1.0;
    int64_t low = cells / 2 - half, high = cells / 2 + half;
    for (int64_t z = low; z < high; z++)
        for (int64_t y = low; y < high; y++)
            for (int64_t x = low; x < high; x++)
                if (z >= m.first && z < m.first + m.count) {
                    m.u[at(&m, z - m.first + 1, y + 1, x + 1)] = 0.25;
                    m.v[at(&m, z - m.first + 1, y + 1, x + 1)] = 0.33;
                }
    return m;
}

/* Fills the ghost cells of a field: along z from the neighbours, else from the
 * other side. Faces only; the stencil reads no edge or corner. */
static void fill_ghosts(const model *m, double *field, int rank, int size)
{
    int64_t n = m->cells, layer = (n + 2) * (n + 2);
    int below = (rank + size - 1) % size, above = (rank + 1) % size;
    for (int64_t z = 1; z <= m->count; z++)
        for (int64_t i = 1; i <= n; i++) {
            field[at(m, z, 0, i)] = field[at(m, z, n, i)];
            field[at(m, z, n + 1, i)] = field[at(m, z, 1, i)];
            field[at(m, z, i, 0)] = field[at(m, z, i, n)];
            field[at(m, z, i, n + 1)] = field[at(m, z, i, 1)];
        }
    MPI_Sendrecv(field + layer, (int)layer, MPI_DOUBLE, below, 0,
                 field + (m->count + 1) * layer, (int)layer, MPI_DOUBLE, above, 0,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Sendrecv(field + m->count * layer, (int)layer, MPI_DOUBLE, above, 1, field,
                 (int)layer, MPI_DOUBLE, below, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

/* The sum over the six neighbours, in an order that all of these programs keep. */
static double around(const double *f, int64_t i, int64_t row, int64_t layer)
{
    return f[i - 1] + f[i + 1] + f[i - row] + f[i + row] + f[i - layer] + f[i + layer];
}

/* One step of Euler. */
static void advance(model *m, int64_t step)
{
    int64_t n = m->cells, row = n + 2, layer = row * row;
    uint64_t at_step = mix(SEED ^ mix((uint64_t)step));
    for (int64_t z = 1; z <= m->count; z++)
        for (int64_t y = 1; y <= n; y++)
            for (int64_t x = 1; x <= n; x++) {
                int64_t i = at(m, z, y, x);
                double u = m->u[i], v = m->v[i];
                double laplace_u = around(m->u, i, row, layer) / 6.0 - u;
                double laplace_v = around(m->v, i, row, layer) / 6.0 - v;
                uint64_t cell = (uint64_t)(((m->first + z - 1) * n + y - 1) * n + x - 1);
                double random = NOISE * unit(mix(at_step ^ cell));
                double reaction = u * v * v;
                double rate_u = DU * laplace_u - reaction + FEED * (1.0 - u) + random;
                double rate_v = DV * laplace_v + reaction - (FEED + KILL) * v;
                m->next_u[i] = u + DT * rate_u;
                m->next_v[i] = v + DT * rate_v;
            }
    model old = *m;
    m->u = old.next_u;
    m->v = old.next_v;
    m->next_u = old.u;
    m->next_v = old.v;
}

int main(int argc, char **argv)
{
    int rank, size;
    int64_t cells = argc > 1 ? atoll(argv[1]) : 64;
    int64_t steps = argc > 2 ? atoll(argv[2]) : 3000;
    int64_t output_every = argc > 3 ? atoll(argv[3]) : 100;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    model m = make(cells, rank, size);
    double *fields = m.u;
    stream out = open_stream(argc > 4 ? argv[4] : "gray_scott", cells);
    write_step(out, &m, 0);
    for (int64_t step = 1; step <= steps; step++) {
        fill_ghosts(&m, m.u, rank, size);
        fill_ghosts(&m, m.v, rank, size);
        advance(&m, step - 1);
        if (step % output_every == 0 || step == steps)
            write_step(out, &m, step);
    }
    check(panta_writer_close(out.writer));
    free(fields);
    MPI_Finalize();
    return 0;
}
