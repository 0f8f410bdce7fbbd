/* Two ranks in threads, found by panta_comm_threads and by a table of functions
 * written here, write and read one stream together: group URL. */
#include "check.h"

#include <pthread.h>

enum { RANKS = 2, ROWS = 3, COLUMNS = 4 };

/* An allgather among threads: everybody writes, meets, reads, meets. */
typedef struct board {
    pthread_barrier_t barrier;
    char bytes[RANKS][1 << 16];
    int released;
} board;

typedef struct seat {
    board *on;
    int rank;
} seat;

static panta_status gather(void *context, const void *mine, void *all,
                           uint64_t bytes_each, int64_t deadline_ms, char *why,
                           size_t why_bytes)
{
    seat *own = (seat *)context;
    if (deadline_ms < 0 || bytes_each > sizeof own->on->bytes[0]) {
        snprintf(why, why_bytes, "no room for %d bytes", (int)bytes_each);
        return PANTA_ERROR_COMMUNICATOR;
    }
    memcpy(own->on->bytes[own->rank], mine, bytes_each);
    pthread_barrier_wait(&own->on->barrier);
    for (int rank = 0; rank < RANKS; rank++)
        memcpy((char *)all + (size_t)rank * bytes_each, own->on->bytes[rank],
               bytes_each);
    pthread_barrier_wait(&own->on->barrier);
    return PANTA_OK;
}

static void release(void *context)
{
    ((seat *)context)->on->released++;
}

static panta_status refuse(void *context, const void *mine, void *all,
                           uint64_t bytes_each, int64_t deadline_ms, char *why,
                           size_t why_bytes)
{
    (void)context, (void)mine, (void)all, (void)bytes_each, (void)deadline_ms;
    snprintf(why, why_bytes, "out of order today");
    return PANTA_ERROR_COMMUNICATOR;
}

typedef struct task {
    const char *url;
    panta_comm *comm;
    int rank;
} task;

static void *rank_main(void *argument)
{
    task *own = (task *)argument;
    int64_t shape[2] = {RANKS * ROWS, COLUMNS}, start[2] = {own->rank * ROWS, 0};
    int64_t count[2] = {ROWS, COLUMNS};
    int32_t field[ROWS * COLUMNS], all[RANKS * ROWS * COLUMNS];
    panta_writer *out;
    panta_reader *in;
    panta_step *step;
    panta_variable u;
    CHECK(panta_writer_open(own->url, own->comm, NULL, &out));
    panta_definition definition = panta_global("u", PANTA_I32, 2, shape);
    CHECK(panta_define(out, &definition, &u));
    for (int number = 0; number < 3; number++) {
        for (int i = 0; i < ROWS * COLUMNS; i++)
            field[i] = number + own->rank * ROWS * COLUMNS + i;
        panta_buffer buffer = panta_dense(field, PANTA_I32, 2, count);
        CHECK(panta_begin_step(out, number, NULL));
        if (number == 1 && own->rank == 1)
            start[0]++; /* reaches outside: the step fails on every rank */
        panta_status put = panta_put(out, u, start, &buffer);
        THAT((put == PANTA_OK) == !(number == 1 && own->rank == 1));
        panta_status end = panta_end_step(out, NULL);
        THAT((end == PANTA_OK) == (number != 1));
        if (number == 1) {
            THAT(end == PANTA_ERROR_ON_RANK && panta_error_rank() == 1);
            start[0] = own->rank * ROWS;
        }
    }
    CHECK(panta_writer_close(out));
    CHECK(panta_reader_open(own->url, own->comm, NULL, &in));
    for (int number = 0; number < 3; number += 2) {
        int64_t whole[2] = {RANKS * ROWS, COLUMNS};
        panta_buffer buffer = panta_dense(all, PANTA_I32, 2, whole);
        CHECK(panta_next_step(in, PANTA_CONFIGURED, &step));
        CHECK(panta_get(step, "u", NULL, &buffer));
        for (int i = 0; i < RANKS * ROWS * COLUMNS; i++)
            THAT(all[i] == number + i);
        CHECK(panta_commit(in, step, "both"));
    }
    EXPECT(PANTA_END_OF_STREAM, panta_next_step(in, PANTA_CONFIGURED, &step));
    CHECK(panta_reader_close(in));
    CHECK(panta_comm_close(own->comm));
    EXPECT(PANTA_ERROR_CLOSED_HANDLE, panta_comm_close(own->comm));
    return NULL;
}

static void run(const char *url, panta_comm *comms[RANKS])
{
    pthread_t threads[RANKS];
    task tasks[RANKS];
    for (int rank = 0; rank < RANKS; rank++) {
        tasks[rank] = (task){url, comms[rank], rank};
        THAT(pthread_create(&threads[rank], NULL, rank_main, &tasks[rank]) == 0);
    }
    for (int rank = 0; rank < RANKS; rank++)
        THAT(pthread_join(threads[rank], NULL) == 0);
}

int main(int argc, char **argv)
{
    static board shared;
    seat seats[RANKS];
    panta_comm *comms[RANKS], *broken;
    panta_writer *out;
    if (argc < 2)
        return 2;
    CHECK(panta_comm_threads(RANKS, comms));
    run(argv[1], comms);

    THAT(pthread_barrier_init(&shared.barrier, NULL, RANKS) == 0);
    panta_comm_vtable table;
    memset(&table, 0, sizeof table);
    table.size = sizeof table;
    table.size_of_group = RANKS;
    EXPECT(PANTA_ERROR_NULL, panta_comm_from_vtable(&table, &comms[0]));
    table.allgather = gather;
    table.release = release;
    table.rank = RANKS;
    EXPECT(PANTA_ERROR_ARGUMENT, panta_comm_from_vtable(&table, &comms[0]));
    THAT(shared.released == 0);
    for (int rank = 0; rank < RANKS; rank++) {
        seats[rank].on = &shared;
        seats[rank].rank = rank;
        table.rank = rank;
        table.context = &seats[rank];
        CHECK(panta_comm_from_vtable(&table, &comms[rank]));
    }
    run(argv[1], comms);
    THAT(shared.released == RANKS);

    table.allgather = refuse;
    table.rank = 0;
    CHECK(panta_comm_from_vtable(&table, &broken));
    REFUSED(PANTA_ERROR_COMMUNICATOR, "out of order today",
            panta_writer_open(argv[1], broken, NULL, &out));
    CHECK(panta_comm_close(broken));

    EXPECT(PANTA_ERROR_COMMUNICATOR, panta_comm_procs(&broken));
    THAT(strstr(panta_error_message(), "PANTA_RANK"));
    CHECK(panta_comm_solo(&broken));
    CHECK(panta_comm_close(broken));
    EXPECT(PANTA_ERROR_ARGUMENT, panta_comm_threads(0, comms));
    return 0;
}
