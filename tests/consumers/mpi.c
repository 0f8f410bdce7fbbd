/* Fails unless a communicator of MPI makes one of Panta. */
#include <panta_mpi.h>

int main(int argc, char **argv)
{
    panta_comm *comm;
    MPI_Init(&argc, &argv);
    panta_status status = panta_comm_mpi(MPI_COMM_WORLD, &comm);
    if (status == PANTA_OK)
        status = panta_comm_close(comm);
    MPI_Finalize();
    return status != PANTA_OK;
}
