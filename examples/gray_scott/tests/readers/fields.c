/* Prints the number, time and a hash of u and v of every step. Usage: fields URL */
#include <inttypes.h>
#include <panta.h>
#include <stdio.h>
#include <stdlib.h>

static int complain(void)
{
    fprintf(stderr, "%s\n", panta_error_message());
    return 1;
}

static uint64_t hash(const double *field, int64_t cells)
{
    uint64_t sum = 1, bits;
    for (int64_t i = 0; i < cells; i++) {
        memcpy(&bits, &field[i], sizeof bits);
        sum = (sum ^ bits) * UINT64_C(1099511628211);
    }
    return sum;
}

int main(int argc, char **argv)
{
    panta_reader *in;
    panta_step *step;
    panta_status status;
    if (argc < 2 || panta_reader_open(argv[1], NULL, NULL, &in) != PANTA_OK)
        return complain();
    while ((status = panta_next_step(in, PANTA_CONFIGURED, &step)) == PANTA_OK) {
        panta_step_info about = PANTA_SIZED(panta_step_info);
        panta_variable_info u = PANTA_SIZED(panta_variable_info);
        if (panta_step_describe(step, &about) != PANTA_OK ||
            panta_find_variable(step, "u", &u) != PANTA_OK)
            return complain();
        printf("%" PRId64 " %.1f", about.number, about.time);
        int64_t cells = u.shape[0] * u.shape[1] * u.shape[2];
        double *field = malloc((size_t)cells * sizeof *field);
        for (int i = 0; i < 2; i++) {
            panta_buffer into = panta_dense(field, PANTA_F64, 3, u.shape);
            if (panta_get(step, i ? "v" : "u", NULL, &into) != PANTA_OK)
                return complain();
            printf(" %016" PRIX64, hash(field, cells));
        }
        free(field);
        printf("\n");
    }
    panta_reader_close(in);
    return status == PANTA_END_OF_STREAM ? 0 : complain();
}
