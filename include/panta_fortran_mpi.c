/* panta_fortran_mpi.c: what panta_mpi.F90 needs of C, where MPI's communicators
 * are something else than in Fortran. Compiled with the user's program, by mpicc.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <panta_mpi.h>

/* In panta_fortran.c. */
panta_status panta_fortran_check(void);

panta_status panta_fortran_comm_mpi(MPI_Fint group, panta_comm **comm)
{
    panta_status status = panta_fortran_check();
    const char *refusal = panta_mpi_refusal();
    if (status != PANTA_OK)
        return status;
    if (refusal)
        return panta_fail(PANTA_ERROR_COMMUNICATOR, refusal);
    return panta_comm_mpi(MPI_Comm_f2c(group), comm);
}
