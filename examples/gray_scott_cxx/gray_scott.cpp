// gray_scott: the Gray-Scott system in three dimensions, in C++ under MPI, that sends
// its fields to a stream. The same model as examples/gray_scott, bit for bit, cut
// into slabs along z; what is said to Panta stands in Output.
//
//     mpicxx -std=c++17 -O2 -ffp-contract=off gray_scott.cpp -lpanta -o gray_scott
//     mpirun -n 4 ./gray_scott [SIZE [STEPS [OUTPUT_EVERY [STREAM]]]]
//
// Where the stream goes is not this program's business: PANTA_URL_GRAY_SCOTT or
// panta.toml says it.
#include <panta_mpi.h>
#include <panta.hpp>

#include <algorithm>
#include <cstdlib>

namespace {

constexpr double DU = 0.6, DV = 0.3, FEED = 0.025, KILL = 0.055, DT = 1.0, NOISE = 0.001;
constexpr std::uint64_t SEED = 1;

// A field on this rank's slab, with a layer of ghost cells all around.
struct Field {
    std::vector<double> memory;
    panta::View<double> all;

    Field(std::int64_t layers, std::int64_t cells, double value)
        : memory(static_cast<std::size_t>((layers + 2) * (cells + 2) * (cells + 2)), value),
          all(memory.data(), {layers + 2, cells + 2, cells + 2})
    {
    }
    Field(Field &&) = default; // a moved vector keeps its memory, at which `all` looks
    Field &operator=(Field &&) = default;
    panta::View<double> inner() const
    {
        return all.part({1, 1, 1}, {all.extent(0) - 2, all.extent(1) - 2, all.extent(2) - 2});
    }
};

// ---- What is said to Panta ----

class Output {
public:
    Output(const char *name, std::int64_t cells, std::int64_t first)
        : writer_(panta::Writer::open(name, panta::Comm::mpi(MPI_COMM_WORLD))), start_{first, 0, 0},
          u_(writer_.define<double>("u", cube(cells))), v_(writer_.define<double>("v", cube(cells)))
    {
    }
    void write(std::int64_t step, const Field &u, const Field &v)
    {
        panta::WriterStep out = writer_.begin_step(static_cast<double>(step) * DT);
        out.put(u_, start_, u.inner());
        out.put(v_, start_, v.inner());
        out.end();
    }
    void close() { writer_.close(); }

private:
    static panta::Shape cube(std::int64_t cells)
    {
        return panta::Shape::global({cells, cells, cells}).dims({"z", "y", "x"}).unit("1");
    }
    panta::Writer writer_;
    panta::Extents start_;
    panta::Variable<double> u_, v_;
};

// ---- The model ----

// A bijection on 64 bits under which neighbouring inputs have unrelated outputs: the
// finaliser of SplitMix64.
std::uint64_t mix(std::uint64_t value)
{
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

// 53 bits of `hash` as a number in [-1, 1).
double unit(std::uint64_t hash)
{
    return static_cast<double>(hash >> 11) * (2.0 / 9007199254740992.0) - 1.0;
}

// The sum over the six neighbours, in an order that all of these programs keep.
double around(const panta::View<double> &f, std::int64_t z, std::int64_t y, std::int64_t x)
{
    return f(z, y, x - 1) + f(z, y, x + 1) + f(z, y - 1, x) + f(z, y + 1, x) + f(z - 1, y, x) +
           f(z + 1, y, x);
}

class Model {
public:
    Field u, v;

    // The initial state: u = 1 and v = 0, but for a cube in the centre.
    Model(std::int64_t cells, int rank, int size)
        : Model(cells, cells * rank / size, cells * (rank + 1) / size - cells * rank / size)
    {
        rank_ = rank;
        size_ = size;
    }

    std::int64_t first() const { return first_; }

    // One step of Euler.
    void advance(std::int64_t step)
    {
        fill_ghosts(u.all);
        fill_ghosts(v.all);
        const std::uint64_t at_step = mix(SEED ^ mix(static_cast<std::uint64_t>(step)));
        for (std::int64_t z = 1; z <= count_; z++)
            for (std::int64_t y = 1; y <= cells_; y++)
                for (std::int64_t x = 1; x <= cells_; x++) {
                    double a = u.all(z, y, x), b = v.all(z, y, x);
                    double laplace_u = around(u.all, z, y, x) / 6.0 - a;
                    double laplace_v = around(v.all, z, y, x) / 6.0 - b;
                    auto cell = static_cast<std::uint64_t>(
                        ((first_ + z - 1) * cells_ + y - 1) * cells_ + x - 1);
                    double random = NOISE * unit(mix(at_step ^ cell));
                    double reaction = a * b * b;
                    double rate_u = DU * laplace_u - reaction + FEED * (1.0 - a) + random;
                    double rate_v = DV * laplace_v + reaction - (FEED + KILL) * b;
                    next_u_.all(z, y, x) = a + DT * rate_u;
                    next_v_.all(z, y, x) = b + DT * rate_v;
                }
        std::swap(u, next_u_);
        std::swap(v, next_v_);
    }

private:
    Field next_u_, next_v_;
    std::int64_t cells_, first_, count_;
    int rank_ = 0, size_ = 1;

    Model(std::int64_t cells, std::int64_t first, std::int64_t count)
        : u(count, cells, 1.0), v(count, cells, 0.0), next_u_(count, cells, 0.0),
          next_v_(count, cells, 0.0), cells_(cells), first_(first), count_(count)
    {
        const std::int64_t half = std::min(std::max(cells / 10, std::int64_t(4)), cells / 2);
        const std::int64_t low = cells / 2 - half, high = cells / 2 + half;
        for (std::int64_t z = std::max(low, first); z < std::min(high, first + count); z++)
            for (std::int64_t y = low; y < high; y++)
                for (std::int64_t x = low; x < high; x++) {
                    u.all(z - first + 1, y + 1, x + 1) = 0.25;
                    v.all(z - first + 1, y + 1, x + 1) = 0.33;
                }
    }

    // Along z from the neighbours, else from the other side. Faces only; the stencil
    // reads no edge or corner.
    void fill_ghosts(const panta::View<double> &field) const
    {
        const std::int64_t n = cells_;
        const int layer = static_cast<int>(field.stride(0));
        const int below = (rank_ + size_ - 1) % size_, above = (rank_ + 1) % size_;
        for (std::int64_t z = 1; z <= count_; z++)
            for (std::int64_t i = 1; i <= n; i++) {
                field(z, 0, i) = field(z, n, i);
                field(z, n + 1, i) = field(z, 1, i);
                field(z, i, 0) = field(z, i, n);
                field(z, i, n + 1) = field(z, i, 1);
            }
        MPI_Sendrecv(&field(1, 0, 0), layer, MPI_DOUBLE, below, 0, &field(count_ + 1, 0, 0), layer,
                     MPI_DOUBLE, above, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Sendrecv(&field(count_, 0, 0), layer, MPI_DOUBLE, above, 1, &field(0, 0, 0), layer,
                     MPI_DOUBLE, below, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
};

void run(int argc, char **argv)
{
    int rank, size;
    const std::int64_t cells = argc > 1 ? std::atoll(argv[1]) : 64;
    const std::int64_t steps = argc > 2 ? std::atoll(argv[2]) : 3000;
    const std::int64_t output_every = argc > 3 ? std::atoll(argv[3]) : 100;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (cells < size)
        throw std::invalid_argument("fewer layers of cells than ranks");
    Model model(cells, rank, size);
    Output out(argc > 4 ? argv[4] : "gray_scott", cells, model.first());
    out.write(0, model.u, model.v);
    for (std::int64_t step = 1; step <= steps; step++) {
        model.advance(step - 1);
        if (step % output_every == 0 || step == steps)
            out.write(step, model.u, model.v);
    }
    out.close();
}

} // namespace

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    try {
        run(argc, argv);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "gray_scott: %s\n", error.what());
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    MPI_Finalize();
}
