/* Counts how often a put and a get take memory once they are warm: allocations URL.
 * Prints both. The library's calls come here, since a program's own malloc is everybody's. */
#include "check.h"

enum { CELLS = 128, CALLS = 50 };

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static int taken;

void *malloc(size_t bytes)
{
    taken++;
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    taken++;
    return __libc_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    taken++;
    return __libc_realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    taken++;
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    taken++;
    *memory = __libc_memalign(alignment, bytes);
    return *memory ? 0 : 12;
}

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
        puts = taken;
        for (int i = 0; i < CALLS; i++) {
            panta_buffer buffer = panta_dense(field, PANTA_F64, 1, count);
            CHECK(panta_put(out, u, start, &buffer));
        }
        puts = taken - puts;
        CHECK(panta_end_step(out, NULL));
    }
    CHECK(panta_writer_close(out));
    THAT(taken > 0);
    CHECK(panta_reader_open(argv[1], NULL, NULL, &in));
    CHECK(panta_next_step(in, PANTA_CONFIGURED, &step));
    for (int round = 0; round < 2; round++) {
        gets = taken;
        for (int i = 0; i < CALLS; i++) {
            panta_buffer buffer = panta_dense(field, PANTA_F64, 1, count);
            panta_selection box = panta_box(1, start, count);
            CHECK(panta_get(step, "u", &box, &buffer));
        }
        gets = taken - gets;
    }
    CHECK(panta_reader_close(in));
    printf("%d %d\n", puts, gets);
    return 0;
}
