/* Counts how often a put and a get take memory once they are warm: allocations URL.
 * Prints both. */
#include "check.h"
#include "counting.c"

enum { CELLS = 128, CALLS = 50 };

int main(int argc, char **argv)
{
    static double field[CELLS];
    int64_t count[1] = {CELLS}, start[1] = {0};
    int puts = 0, gets = 0;
    panta_writer *out;
    panta_variable u;
    panta_reader *in;
    panta_step *step;
    panta_definition definition = panta_global("u", PANTA_F64, 1, count);
    if (argc < 2)
        return 2;
    CHECK(panta_writer_open(argv[1], NULL, NULL, &out));
    CHECK(panta_define(out, &definition, &u));
    for (int round = 0; round < 2; round++) {
        CHECK(panta_begin_step(out, 0, NULL));
        puts = memory_taken();
        for (int i = 0; i < CALLS; i++) {
            panta_buffer buffer = panta_dense(field, PANTA_F64, 1, count);
            CHECK(panta_put(out, u, start, &buffer));
        }
        puts = memory_taken() - puts;
        CHECK(panta_end_step(out, NULL));
    }
    CHECK(panta_writer_close(out));
    THAT(memory_taken() > 0);
    CHECK(panta_reader_open(argv[1], NULL, NULL, &in));
    CHECK(panta_next_step(in, PANTA_CONFIGURED, &step));
    for (int round = 0; round < 2; round++) {
        gets = memory_taken();
        for (int i = 0; i < CALLS; i++) {
            panta_buffer buffer = panta_dense(field, PANTA_F64, 1, count);
            panta_selection box = panta_box(1, start, count);
            CHECK(panta_get(step, "u", &box, &buffer));
        }
        gets = memory_taken() - gets;
    }
    CHECK(panta_reader_close(in));
    printf("%d %d\n", puts, gets);
    return 0;
}
