/* Puts three steps of `u` into the stream that is named: writer NAME. */
#include <panta.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(call)                                                            \
    do {                                                                       \
        if ((call) != PANTA_OK) {                                              \
            fprintf(stderr, "%s\n", panta_error_message());                    \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

int main(int argc, char **argv)
{
    int64_t shape[2] = {2, 3};
    panta_writer *out;
    panta_variable u;
    CHECK(panta_writer_open(argc > 1 ? argv[1] : "run", NULL, NULL, &out));
    panta_definition definition = panta_global("u", PANTA_I32, 2, shape);
    definition.unit = "1";
    CHECK(panta_define(out, &definition, &u));
    CHECK(panta_set_attribute_text(out, u, "by", "a writer in C"));
    for (int32_t step = 0; step < 3; step++) {
        int32_t cells[6] = {step, 1, 2, 3, 4, 5};
        panta_buffer buffer = panta_dense(cells, PANTA_I32, 2, shape);
        CHECK(panta_begin_step(out, 0.5 * step, NULL));
        CHECK(panta_put(out, u, NULL, &buffer));
        CHECK(panta_end_step(out, NULL));
    }
    CHECK(panta_writer_close(out));
    return 0;
}
