/* The data of the scenarios, as tests/src/cells.rs makes them: a function of
 * (variable, step, global index). With it come CHECK and THAT. */
#ifndef PANTA_SCENARIO_CELLS_H
#define PANTA_SCENARIO_CELLS_H

#include "../../ffi/tests/programs/check.h"

#include <stdbool.h>

static inline uint64_t cell_bits(const char *variable, uint64_t step,
                                 uint64_t index)
{
    uint64_t seed = UINT64_C(0xcbf29ce484222325), bits;
    for (; *variable; variable++)
        seed = (seed ^ (unsigned char)*variable) * UINT64_C(0x100000001b3);
    bits = step * UINT64_C(0x9e3779b97f4a7c15) + index;
    bits = (bits * UINT64_C(0xd1342543de82ef95)) ^ seed;
    bits = (bits ^ (bits >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    bits = (bits ^ (bits >> 27)) * UINT64_C(0x94d049bb133111eb);
    return bits ^ (bits >> 31);
}

static inline double cell_f64(uint64_t bits)
{
    return (double)(bits >> 11) * 1e-9 - 1e6;
}

/* Bytes of the largest element that cells are made of. */
enum { CELL_BYTES = 16 };

/* One element of the dtypes that the programs use; gives its bytes. */
static inline size_t cell(panta_dtype dtype, const char *variable,
                          uint64_t step, uint64_t index, void *into)
{
    uint64_t bits = cell_bits(variable, step, index);
    uint32_t high = (uint32_t)(bits >> 32);
    double parts[2] = {cell_f64(bits), cell_f64(bits << 32)};
    bool flag = bits >> 63;
    size_t bytes = (size_t)panta_element_bytes(dtype);
    switch (dtype) {
    case PANTA_I32: memcpy(into, &high, bytes); break;
    case PANTA_I64: memcpy(into, &bits, bytes); break;
    case PANTA_F64: memcpy(into, parts, bytes); break;
    case PANTA_COMPLEX128: memcpy(into, parts, bytes); break;
    case PANTA_BOOL: memcpy(into, &flag, bytes); break;
    default: THAT(!"a dtype with cells");
    }
    return bytes;
}

#endif
