/* panta_mpi.h: a panta_comm from an MPI_Comm.
 *
 *     panta_comm *comm;
 *     panta_comm_mpi(MPI_COMM_WORLD, &comm);
 *     panta_writer_open("run42", comm, NULL, &out);
 *     panta_comm_close(comm);
 *
 * These functions are compiled with your program, by your mpicc, so that one
 * libpanta serves every MPI. The communicator is duplicated and used while a
 * stream opens, for ranks to find each other; never afterwards. Any MPI thread
 * level will do; below MPI_THREAD_SERIALIZED, open on the thread that
 * initialised MPI. A rank that does not come is an error at the deadline, but
 * for the duplication, which is collective and waits as MPI does.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef PANTA_MPI_H
#define PANTA_MPI_H

#include <limits.h>
#include <mpi.h>
#include <panta.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

/* Fills `why` in with MPI's words. */
static inline panta_status panta_mpi_failed(int code, char *why,
                                            size_t why_bytes)
{
    char words[MPI_MAX_ERROR_STRING + 1] = "an error of MPI";
    int length = 0;
    if (MPI_Error_string(code, words, &length) == MPI_SUCCESS)
        words[length] = '\0';
    snprintf(why, why_bytes, "MPI: %s", words);
    return PANTA_ERROR_COMMUNICATOR;
}

/* Says why MPI must not be called here and now; NULL if it may. */
static inline const char *panta_mpi_refusal(void)
{
    int initialised = 0, finalised = 0, level = 0, is_main = 0;
    MPI_Initialized(&initialised);
    if (!initialised)
        return "MPI is not initialised; call MPI_Init first";
    MPI_Finalized(&finalised);
    if (finalised)
        return "MPI is finalised; open streams before MPI_Finalize";
    MPI_Query_thread(&level);
    if (level >= MPI_THREAD_SERIALIZED)
        return NULL;
    MPI_Is_thread_main(&is_main);
    return is_main ? NULL
                   : "MPI was initialised below MPI_THREAD_SERIALIZED; open "
                     "streams on the thread that initialised it";
}

/* Whether MPI knows a communicator. Errors about one that it does not know go to the
 * handlers of those that are always there, and are returned just here: by default
 * they end the program. MPIs whose handles are pointers cannot tell in C, where a
 * freed one points to memory that is gone; in Fortran all can. */
static inline int panta_mpi_knows(MPI_Comm group)
{
    MPI_Errhandler world, self;
    int size = 0, code;
    MPI_Comm_get_errhandler(MPI_COMM_WORLD, &world);
    MPI_Comm_get_errhandler(MPI_COMM_SELF, &self);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    code = MPI_Comm_size(group, &size);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, world);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, self);
    MPI_Errhandler_free(&world);
    MPI_Errhandler_free(&self);
    return code == MPI_SUCCESS;
}

/* Gathers without blocking in MPI, so that the deadline is kept. */
static inline panta_status panta_mpi_allgather(void *context, const void *mine,
                                               void *all, uint64_t bytes_each,
                                               int64_t deadline_ms, char *why,
                                               size_t why_bytes)
{
    MPI_Request request;
    double end = 0;
    int done = 0, code;
    const char *refusal = panta_mpi_refusal();
    if (refusal || bytes_each > INT_MAX) {
        snprintf(why, why_bytes, "%s", refusal ? refusal : "too many bytes");
        return PANTA_ERROR_COMMUNICATOR;
    }
    end = MPI_Wtime() + 1e-3 * (double)deadline_ms;
    code = MPI_Iallgather(mine, (int)bytes_each, MPI_BYTE, all, (int)bytes_each,
                          MPI_BYTE, *(MPI_Comm *)context, &request);
    while (code == MPI_SUCCESS) {
        code = MPI_Test(&request, &done, MPI_STATUS_IGNORE);
        if (code == MPI_SUCCESS && done)
            return PANTA_OK;
        if (MPI_Wtime() > end)
            return PANTA_ERROR_DEADLINE;
        sched_yield();
    }
    return panta_mpi_failed(code, why, why_bytes);
}

/* Frees the duplicate; MPI has done so itself where it is finalised. */
static inline void panta_mpi_release(void *context)
{
    int finalised = 1;
    MPI_Finalized(&finalised);
    if (!finalised)
        MPI_Comm_free((MPI_Comm *)context);
    free(context);
}

/* The ranks of an MPI communicator, numbered as they are there. Collective over
 * it. Close the result with panta_comm_close, before MPI_Finalize. */
static inline panta_status panta_comm_mpi(MPI_Comm group, panta_comm **comm)
{
    panta_comm_vtable table;
    panta_status status;
    int rank = 0, size = 0, between_groups = 0, code;
    char why[MPI_MAX_ERROR_STRING + 16];
    const char *refusal = panta_mpi_refusal();
    MPI_Comm *duplicate;
    if (refusal)
        return panta_fail(PANTA_ERROR_COMMUNICATOR, refusal);
    if (group == MPI_COMM_NULL)
        return panta_fail(PANTA_ERROR_ARGUMENT,
                          "`group` is MPI_COMM_NULL; ranks outside a group do "
                          "not open its streams");
    if (!panta_mpi_knows(group))
        return panta_fail(PANTA_ERROR_ARGUMENT,
                          "`group` is no communicator of MPI: it was freed, or "
                          "never made");
    MPI_Comm_test_inter(group, &between_groups);
    if (between_groups)
        return panta_fail(PANTA_ERROR_ARGUMENT,
                          "`group` is an intercommunicator, which lies between "
                          "two groups; give that of one, or MPI_Intercomm_merge it");
    duplicate = (MPI_Comm *)malloc(sizeof *duplicate);
    if (!duplicate)
        return panta_fail(PANTA_ERROR_IO, "no memory for a communicator");
    code = MPI_Comm_dup(group, duplicate);
    if (code != MPI_SUCCESS) {
        free(duplicate);
        return panta_fail(panta_mpi_failed(code, why, sizeof why), why);
    }
    MPI_Comm_set_errhandler(*duplicate, MPI_ERRORS_RETURN);
    MPI_Comm_rank(*duplicate, &rank);
    MPI_Comm_size(*duplicate, &size);
    memset(&table, 0, sizeof table);
    table.size = sizeof table;
    table.context = duplicate;
    table.rank = rank;
    table.size_of_group = size;
    table.allgather = panta_mpi_allgather;
    table.release = panta_mpi_release;
    status = panta_comm_from_vtable(&table, comm);
    if (status != PANTA_OK)
        panta_mpi_release(duplicate);
    return status;
}

#endif /* PANTA_MPI_H */
