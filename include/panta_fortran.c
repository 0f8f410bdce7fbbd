/* panta_fortran.c: what the Fortran module needs of C.
 *
 * Compiled with the user's program, by a C compiler that finds the
 * ISO_Fortran_binding.h of the user's Fortran compiler: the layout of an array's
 * descriptor differs from compiler to compiler, so it is read here and nowhere
 * else. panta.f90 is the only caller.
 *
 *   descriptor: base, type, (extent, stride) first dimension fastest
 *        |  dtype, dimensions turned round, strides kept: no temporary
 *        v
 *   panta_buffer: data, dtype, (count, stride) last dimension fastest
 *
 * Logical arrays of more than one byte an element are the exception: Panta keeps
 * a boolean in a byte, so they are converted on the way.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "panta/fortran_arrays.h"

/* Every function that opens something asks this first. */
panta_status panta_fortran_check(void)
{
    if (panta_version_number() >= PANTA_VERSION_NUMBER)
        return PANTA_OK;
    return refuse(PANTA_ERROR_UNSUPPORTED,
                  "libpanta %s is older than the module `panta` that this program was "
                  "compiled with, which is of %d.%d.%d; put the newer library in the "
                  "loader's way, or compile the program with the older module",
                  panta_version(), PANTA_VERSION_MAJOR, PANTA_VERSION_MINOR,
                  PANTA_VERSION_PATCH);
}

/* ---- Puts ---- */

/* Integers are put into unsigned variables of their size: Fortran has no others. */
static void as_unsigned(panta_buffer *buffer, panta_dtype variable)
{
    if (buffer->dtype >= PANTA_I8 && buffer->dtype <= PANTA_I64 &&
        variable == buffer->dtype + (PANTA_U8 - PANTA_I8))
        buffer->dtype = variable;
}

static panta_status put_scalar(panta_writer *writer, const fortran_variable *variable,
                               const fortran_array *array)
{
    if (array->logical_bytes) {
        uint8_t value = 0;
        convert(array, &value, true);
        return panta_put_value(writer, variable->number, PANTA_BOOL, &value);
    }
    return panta_put_value(writer, variable->number, array->buffer.dtype, array->buffer.data);
}

static panta_status put_logical(panta_writer *writer, const fortran_variable *variable,
                                const int64_t *start, const fortran_array *array)
{
    panta_buffer dense;
    panta_status status;
    uint8_t *room = room_for(array, &dense);
    if (!room)
        return PANTA_ERROR_IO;
    convert(array, room, true);
    status = panta_put_owned(writer, variable->number, start, &dense, give_back, NULL);
    if (status != PANTA_OK)
        free(room);
    return status;
}

/* What was not given. */
static const fortran_place nowhere = {-1, {0}};

/* Refuses what has not the variable's dimensions, and makes integers its own. */
static inline panta_status fit(const char *function, const fortran_variable *variable,
                               fortran_array *array, const fortran_place *start,
                               const fortran_place *count)
{
    if (array->buffer.dimensions == variable->dimensions) {
        as_unsigned(&array->buffer, variable->dtype);
        return PANTA_OK;
    }
    if (!variable->number)
        return refuse(PANTA_ERROR_UNKNOWN_VARIABLE,
                      "%s: `variable` is none that panta_define gave", function);
    return explain(refuse(PANTA_ERROR_SHAPE,
                          "%s: `array` has rank %d, the variable %d dimensions", function,
                          array->buffer.dimensions, variable->dimensions),
                   &array->buffer, start, count);
}

/* Reads what is to be put, and where; `turned` is NULL if nothing says where. */
static panta_status read_put(const char *function, const fortran_variable *variable,
                             const CFI_cdesc_t *given, const fortran_place *start,
                             const fortran_place *count, fortran_array *array,
                             int64_t room[PANTA_MAX_DIMS], const int64_t **turned)
{
    panta_status status = read_descriptor(function, given, array);
    *turned = start->dimensions > 0 ? room : NULL;
    if (status == PANTA_OK)
        status = spread(function, array, count);
    if (status == PANTA_OK && start->dimensions >= 0 &&
        start->dimensions != array->buffer.dimensions)
        status = explain(refuse(PANTA_ERROR_SHAPE,
                                "%s: `start` and `array` have different numbers of "
                                "dimensions", function),
                         &array->buffer, start, count);
    if (status == PANTA_OK)
        status = fit(function, variable, array, start, count);
    if (status == PANTA_OK && start->dimensions > 0)
        status = turn(function, "start", start, 1, room);
    return status;
}

/* Puts what was read; with `start` where it goes, or NULL. */
static inline panta_status put_array(panta_writer *writer, const fortran_variable *variable,
                                     const int64_t *start, const fortran_array *array,
                                     bool is_deferred)
{
    if (array->buffer.dimensions == 0)
        return put_scalar(writer, variable, array);
    if (array->logical_bytes)
        return put_logical(writer, variable, start, array);
    if (is_deferred)
        return panta_put(writer, variable->number, start, &array->buffer);
    return panta_put_copied(writer, variable->number, start, &array->buffer);
}

static panta_status put(panta_writer *writer, const fortran_variable *variable,
                        const CFI_cdesc_t *given, const fortran_place *start,
                        const fortran_place *count, bool is_deferred)
{
    fortran_array array;
    int64_t room[PANTA_MAX_DIMS];
    const int64_t *turned;
    panta_status status =
        read_put("panta_put", variable, given, start, count, &array, room, &turned);
    if (status != PANTA_OK)
        return spoil(writer, status);
    status = put_array(writer, variable, turned, &array, is_deferred);
    return explain(status, &array.buffer, start, count);
}

/* The same of a whole array, as most are put. */
static inline panta_status put_whole(panta_writer *writer, const fortran_variable *variable,
                                     const CFI_cdesc_t *given, bool is_deferred)
{
    fortran_array array;
    panta_status status = read_descriptor("panta_put", given, &array);
    if (status == PANTA_OK)
        status = fit("panta_put", variable, &array, &nowhere, &nowhere);
    if (status != PANTA_OK)
        return spoil(writer, status);
    status = put_array(writer, variable, NULL, &array, is_deferred);
    return explain(status, &array.buffer, &nowhere, &nowhere);
}

panta_status panta_fortran_put(panta_writer *writer, const fortran_variable *variable,
                               const CFI_cdesc_t *given, const fortran_place *start,
                               const fortran_place *count)
{
    return put(writer, variable, given, start, count, false);
}

panta_status panta_fortran_put_deferred(panta_writer *writer,
                                        const fortran_variable *variable,
                                        const CFI_cdesc_t *given, const fortran_place *start,
                                        const fortran_place *count)
{
    return put(writer, variable, given, start, count, true);
}

panta_status panta_fortran_put_whole(panta_writer *writer, const fortran_variable *variable,
                                     const CFI_cdesc_t *given)
{
    return put_whole(writer, variable, given, false);
}

panta_status panta_fortran_put_whole_deferred(panta_writer *writer,
                                              const fortran_variable *variable,
                                              const CFI_cdesc_t *given)
{
    return put_whole(writer, variable, given, true);
}

panta_status panta_fortran_put_owned(panta_writer *writer, const fortran_variable *variable,
                                     const CFI_cdesc_t *given, const fortran_place *start,
                                     void (*release)(void *, void *), void *context)
{
    fortran_array array;
    int64_t room[PANTA_MAX_DIMS];
    const int64_t *turned;
    panta_status status = read_put("panta_put_owned", variable, given, start, &nowhere, &array,
                                   room, &turned);
    if (status == PANTA_OK && (array.logical_bytes || array.buffer.dimensions == 0))
        status = refuse(PANTA_ERROR_DTYPE,
                        "panta_put_owned: `array` is lent as it lies: no scalar, and no "
                        "logical of more than one byte");
    if (status != PANTA_OK)
        return spoil(writer, status);
    status = panta_put_owned(writer, variable->number, turned, &array.buffer, release, context);
    return explain(status, &array.buffer, start, &nowhere);
}

/* `count` in Fortran's order; the memory's dimensions are the same. */
panta_status panta_fortran_span(panta_writer *writer, const fortran_variable *variable,
                                const fortran_place *start, const fortran_place *count,
                                void **memory)
{
    int64_t first[PANTA_MAX_DIMS], counts[PANTA_MAX_DIMS];
    panta_status status = PANTA_OK;
    if (count->dimensions != variable->dimensions ||
        (start->dimensions >= 0 && start->dimensions != variable->dimensions))
        status = refuse(PANTA_ERROR_SHAPE,
                        "panta_span: `count` has %d entries and `start` %d, the variable "
                        "has %d dimensions",
                        (int)count->dimensions,
                        (int)(start->dimensions < 0 ? count->dimensions : start->dimensions),
                        variable->dimensions);
    if (status == PANTA_OK)
        status = turn("panta_span", "count", count, 0, counts);
    if (status == PANTA_OK && start->dimensions > 0)
        status = turn("panta_span", "start", start, 1, first);
    if (status != PANTA_OK)
        return spoil(writer, status);
    status = panta_span(writer, variable->number, variable->dtype,
                        start->dimensions > 0 ? first : NULL, counts, memory);
    if (status != PANTA_ERROR_SHAPE)
        return status;
    char words[WORDS_BYTES] = "";
    say_place(words, "; `count` is ", count->dimensions, count->of);
    if (start->dimensions >= 0)
        say_place(words, ", `start` is ", start->dimensions, start->of);
    return in_fortran(status, words);
}

/* ---- Selections ---- */

/* What is asked for, where it was said. */
typedef struct {
    fortran_place start;
    fortran_place count;
    fortran_place stride;
    /* From 1; 0 for none. */
    int64_t block;
} fortran_selection;

/* Makes a selection of a block, from 1, or for 0 of everything. Where there are no
 * dimensions, the rest is not looked at. */
static inline panta_status select_block(const char *function, int64_t block,
                                        panta_selection *selection)
{
    selection->size = sizeof *selection;
    selection->block = block ? block - 1 : PANTA_NO_BLOCK;
    selection->dimensions = 0;
    selection->reserved = 0;
    if (block >= 0)
        return PANTA_OK;
    return refuse(PANTA_ERROR_ARGUMENT, "%s: `block` is %lld; blocks are counted from 1",
                  function, (long long)block);
}

/* Makes a selection of it; counts that are not given are those of `array`, or if
 * that is NULL what is left of the array. */
static panta_status read_selection(const char *function, const fortran_selection *given,
                                   const panta_buffer *array, panta_selection *selection)
{
    int64_t dimensions = given->start.dimensions;
    panta_status status = select_block(function, given->block, selection);
    if (status != PANTA_OK || dimensions < 0)
        return status;
    if ((given->count.dimensions >= 0 && given->count.dimensions != dimensions) ||
        (given->stride.dimensions >= 0 && given->stride.dimensions != dimensions) ||
        (given->count.dimensions < 0 && array && array->dimensions != dimensions))
        return refuse(PANTA_ERROR_SHAPE,
                      "%s: `start`, `count` and `stride` must have as many entries as each "
                      "other, and where `count` is not given, as `array` has dimensions",
                      function);
    selection->dimensions = (int32_t)dimensions;
    status = turn(function, "start", &given->start, 1, selection->start);
    for (int64_t i = 0; i < dimensions; i++) {
        selection->count[i] = array ? array->count[i] : PANTA_TO_END;
        selection->stride[i] = 1;
    }
    if (status == PANTA_OK && given->count.dimensions > 0)
        status = turn(function, "count", &given->count, 0, selection->count);
    for (int64_t i = 0; i < given->stride.dimensions; i++)
        selection->stride[dimensions - 1 - i] = given->stride.of[i];
    return status;
}

/* ---- Gets ---- */

/* Gets into a buffer, at once or with a batch's others. */
static inline panta_status get_into(panta_step *step, panta_batch *batch,
                                    const char *variable, const panta_selection *selection,
                                    const panta_buffer *buffer)
{
    if (batch)
        return panta_batch_get(batch, variable, selection, buffer);
    if (buffer->dimensions == 0 && selection->dimensions == 0 && selection->block < 0)
        return panta_get_value(step, variable, buffer->dtype, buffer->data);
    return panta_get(step, variable, selection, buffer);
}

/* The same after the library refused integers: of a variable of unsigned ones of their size
 * it gives them as such. */
static panta_status get_unsigned(panta_step *step, panta_batch *batch, const char *variable,
                                 const panta_selection *selection, panta_buffer *buffer)
{
    panta_variable_info info = PANTA_SIZED(panta_variable_info);
    if (panta_find_variable(step, variable, &info) == PANTA_OK &&
        info.dtype == buffer->dtype + (PANTA_U8 - PANTA_I8))
        buffer->dtype = info.dtype;
    return get_into(step, batch, variable, selection, buffer);
}

/* The same; an integer is got from an unsigned variable of its size. Which the
 * variable is, the library says by refusing the other. */
static inline panta_status get_any(panta_step *step, panta_batch *batch,
                                   const char *variable, const panta_selection *selection,
                                   panta_buffer *buffer)
{
    panta_status status = get_into(step, batch, variable, selection, buffer);
    if (status != PANTA_ERROR_DTYPE || buffer->dtype > PANTA_I64 || buffer->dtype < PANTA_I8)
        return status;
    return get_unsigned(step, batch, variable, selection, buffer);
}

/* A logical array that a batch will fill. */
typedef struct pending {
    struct pending *next;
    fortran_array array;
    uint8_t *dense;
} pending;

/* A batch, and what is to be converted when it is done. */
typedef struct {
    panta_batch *batch;
    panta_step *step;
    pending *pending;
} fortran_batch;

static panta_status get_logical(panta_step *step, fortran_batch *batch, const char *variable,
                                const panta_selection *selection, const fortran_array *array)
{
    panta_buffer dense;
    panta_status status;
    pending *later = batch ? malloc(sizeof *later) : NULL;
    uint8_t *room = room_for(array, &dense);
    if (!room || (batch && !later)) {
        free(room);
        free(later);
        return panta_fail(PANTA_ERROR_IO, "no memory to convert a logical array");
    }
    status = get_into(step, batch ? batch->batch : NULL, variable, selection, &dense);
    if (status == PANTA_OK && later) {
        *later = (pending){batch->pending, *array, room};
        batch->pending = later;
        return status;
    }
    if (status == PANTA_OK)
        convert(array, room, false);
    free(room);
    free(later);
    return status;
}

/* Gets into an array that was read. */
static inline panta_status get_array(panta_step *step, fortran_batch *batch,
                                     const char *variable, const panta_selection *selection,
                                     fortran_array *array)
{
    if (array->logical_bytes)
        return get_logical(step, batch, variable, selection, array);
    return get_any(step, batch ? batch->batch : NULL, variable, selection, &array->buffer);
}

static panta_status get(panta_step *step, fortran_batch *batch, const char *function,
                        const char *variable, const fortran_selection *wanted,
                        const CFI_cdesc_t *given)
{
    fortran_array array;
    panta_selection selection;
    panta_status status = read_descriptor(function, given, &array);
    if (status == PANTA_OK)
        status = spread(function, &array, &wanted->count);
    if (status == PANTA_OK)
        status = read_selection(function, wanted, &array.buffer, &selection);
    if (status != PANTA_OK)
        return status;
    status = get_array(step, batch, variable, &selection, &array);
    return explain(status, &array.buffer, &wanted->start, &wanted->count);
}

panta_status panta_fortran_get(panta_step *step, const char *name, int64_t name_length,
                               const CFI_cdesc_t *given, const fortran_selection *wanted)
{
    c_text text;
    panta_status status;
    if (!text_open(&text, name, name_length))
        return panta_fail(PANTA_ERROR_IO, "no memory for a name");
    status = get(step, NULL, "panta_get", text.text, wanted, given);
    text_close(&text);
    return status;
}

/* The same of a block, from 1, or for 0 of everything, as most are got. */
panta_status panta_fortran_get_whole(panta_step *step, const char *name, int64_t name_length,
                                     const CFI_cdesc_t *given, int64_t block)
{
    fortran_array array;
    panta_selection selection;
    c_text text;
    panta_status status = read_descriptor("panta_get", given, &array);
    if (status == PANTA_OK)
        status = select_block("panta_get", block, &selection);
    if (status != PANTA_OK)
        return status;
    if (!text_open(&text, name, name_length))
        return panta_fail(PANTA_ERROR_IO, "no memory for a name");
    status = get_array(step, NULL, text.text, &selection, &array);
    text_close(&text);
    return explain(status, &array.buffer, &nowhere, &nowhere);
}

/* The counts of a selection, in Fortran's order. */
panta_status panta_fortran_selected(panta_step *step, const char *name, int64_t name_length,
                                    const fortran_selection *wanted, fortran_place *shape)
{
    c_text text;
    panta_selection selection;
    int64_t count[PANTA_MAX_DIMS];
    int32_t dimensions = 0;
    panta_status status = read_selection("panta_selected", wanted, NULL, &selection);
    shape->dimensions = 0;
    if (status != PANTA_OK)
        return status;
    if (!text_open(&text, name, name_length))
        return panta_fail(PANTA_ERROR_IO, "no memory for a name");
    status = panta_selected(step, text.text, &selection, &dimensions, count);
    text_close(&text);
    if (status != PANTA_OK)
        return status;
    shape->dimensions = dimensions;
    for (int i = 0; i < dimensions; i++)
        shape->of[i] = count[dimensions - 1 - i];
    return status;
}

/* ---- Batches ---- */

static void forget(fortran_batch *batch, bool fill)
{
    while (batch->pending) {
        pending *first = batch->pending;
        if (fill)
            convert(&first->array, first->dense, false);
        batch->pending = first->next;
        free(first->dense);
        free(first);
    }
}

panta_status panta_fortran_batch_get(fortran_batch *batch, const char *name,
                                     int64_t name_length, const CFI_cdesc_t *given,
                                     const fortran_selection *wanted)
{
    c_text text;
    panta_status status;
    if (!batch->batch)
        return panta_batch_get(NULL, "", NULL, NULL);
    if (!text_open(&text, name, name_length))
        return panta_fail(PANTA_ERROR_IO, "no memory for a name");
    status = get(batch->step, batch, "panta_batch_get", text.text, wanted, given);
    text_close(&text);
    return status;
}

panta_status panta_fortran_batch_finish(fortran_batch *batch)
{
    panta_status status = panta_batch_finish(batch->batch);
    forget(batch, status == PANTA_OK);
    return status;
}

panta_status panta_fortran_batch_close(fortran_batch *batch)
{
    panta_status status = panta_batch_close(batch->batch);
    forget(batch, false);
    return status;
}
