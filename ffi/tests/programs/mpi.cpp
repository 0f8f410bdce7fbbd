// A group from an MPI communicator in C++: mpirun -n 2 mpi URL.
#include <panta_mpi.h>

#include <panta.hpp>

static void couple(const std::string &url, int rank, int size)
{
    panta::Comm comm = panta::Comm::mpi(MPI_COMM_WORLD);
    panta::Writer out = panta::Writer::open(url, comm);
    auto u = out.define<std::int64_t>("u", panta::Shape::global({size, 2}));
    const std::vector<std::int64_t> row{rank, -rank};
    panta::WriterStep step = out.begin_step();
    step.put(u, {rank, 0}, panta::View(row.data(), {1, 2}));
    step.end();
    out.close();
    panta::Reader in = panta::Reader::open(url, comm);
    auto found = in.next_step();
    auto all = found->get<std::int64_t>("u");
    for (int other = 0; other < size; other++)
        if (all[2 * static_cast<std::size_t>(other)] != other)
            MPI_Abort(MPI_COMM_WORLD, 3);
}

int main(int argc, char **argv)
{
    int rank = 0, size = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    try {
        couple(argc > 1 ? argv[1] : "file:mpi.panta", rank, size);
    } catch (const panta::Error &error) {
        std::fprintf(stderr, "%s\n", error.what());
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    try {
        panta::Comm::mpi(MPI_COMM_NULL);
        MPI_Abort(MPI_COMM_WORLD, 4);
    } catch (const panta::Error &error) {
        if (!strstr(error.what(), "`group` is MPI_COMM_NULL"))
            MPI_Abort(MPI_COMM_WORLD, 5);
    }
    MPI_Finalize();
}
