/* fortran_arrays.h: arrays, places and texts of Fortran as C sees them, and errors that
 * speak of them. A part of panta_fortran.c, which includes it.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef PANTA_FORTRAN_ARRAYS_H
#define PANTA_FORTRAN_ARRAYS_H

#include <ISO_Fortran_binding.h>
#include <panta.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* A variable as panta.f90 keeps it. */
typedef struct {
    panta_variable number;
    panta_dtype dtype;
    int32_t dimensions;
} fortran_variable;

/* Positions or counts in Fortran's order; `dimensions` is -1 where not given. */
typedef struct {
    int64_t dimensions;
    int64_t of[PANTA_MAX_DIMS];
} fortran_place;

/* What an array of Fortran is to Panta. */
typedef struct {
    panta_buffer buffer;
    /* Bytes of an element of a logical array that is to be converted, else 0. */
    size_t logical_bytes;
} fortran_array;

#define WORDS_BYTES 1024

/* ---- Texts ---- */

/* A text of Fortran as C wants it. */
typedef struct {
    char room[256];
    char *text;
} c_text;

/* Without trailing blanks, up to a zero byte, if it has one; NULL where there is no
 * memory. */
static inline const char *text_open(c_text *text, const char *given, int64_t length)
{
    int64_t used = 0;
    while (length > 0 && given[length - 1] == ' ')
        length--;
    text->text = text->room;
    if (length >= (int64_t)sizeof text->room)
        text->text = malloc((size_t)length + 1);
    if (!text->text)
        return NULL;
    /* Most are names, and short. */
    for (; used < length && given[used]; used++)
        text->text[used] = given[used];
    text->text[used] = '\0';
    return text->text;
}

static inline void text_close(c_text *text)
{
    if (text->text != text->room)
        free(text->text);
}

/* ---- Errors ---- */

static panta_status refuse(panta_status status, const char *form, ...)
{
    char words[WORDS_BYTES];
    va_list arguments;
    va_start(arguments, form);
    vsnprintf(words, sizeof words, form, arguments);
    va_end(arguments);
    return panta_fail(status, words);
}

/* The same of a put, whose step then fails. */
static panta_status spoil(panta_writer *writer, panta_status status)
{
    char words[WORDS_BYTES];
    snprintf(words, sizeof words, "%s", panta_error_message());
    panta_fail_step(writer, words);
    return panta_fail(status, words);
}

/* ---- Descriptors ---- */

static const char *dtype_name(panta_dtype dtype)
{
    static const char *const names[15] = {
        "of no type", "integer(1)", "integer(2)", "integer(4)", "integer(8)",
        "PANTA_U8 (as integer(1))", "PANTA_U16 (as integer(2))",
        "PANTA_U32 (as integer(4))", "PANTA_U64 (as integer(8))", "real(4)",
        "real(8)", "complex(4)", "complex(8)", "logical", "character"};
    return names[dtype > 0 && dtype < 15 ? dtype : 0];
}

static inline bool is_logical(CFI_type_t type)
{
#ifdef CFI_type_mask /* gfortran: a base type and a kind */
    return ((int)type & CFI_type_mask) == CFI_type_Logical;
#else /* LLVM: logicals of 2, 4 and 8 bytes have codes that integers do not */
    return type == CFI_type_Bool || type == CFI_type_int_least16_t ||
           type == CFI_type_int_least32_t || type == CFI_type_int_least64_t;
#endif
}

/* The type of the elements; 0 if Panta has none such. */
static inline panta_dtype dtype_of(const CFI_cdesc_t *array)
{
    CFI_type_t type = array->type;
    if (is_logical(type))
        return PANTA_BOOL;
    if (type == CFI_type_double)
        return PANTA_F64;
    if (type == CFI_type_float)
        return PANTA_F32;
    if (type == CFI_type_double_Complex)
        return PANTA_COMPLEX128;
    if (type == CFI_type_float_Complex)
        return PANTA_COMPLEX64;
    if (type == CFI_type_int32_t || type == CFI_type_int)
        return PANTA_I32;
    if (type == CFI_type_int64_t || type == CFI_type_long || type == CFI_type_long_long)
        return PANTA_I64;
    if (type == CFI_type_int16_t || type == CFI_type_short)
        return PANTA_I16;
    if (type == CFI_type_int8_t || type == CFI_type_signed_char)
        return PANTA_I8;
    return type == CFI_type_char ? PANTA_TEXT : 0;
}

/* Reads a descriptor. `name` is what the caller knows the argument as. */
static inline panta_status read_descriptor(const char *function, const CFI_cdesc_t *array,
                                           fortran_array *read)
{
    panta_buffer *buffer = &read->buffer;
    if (!array || !array->base_addr)
        return refuse(PANTA_ERROR_NULL,
                      "%s: `array` is not there: it was not allocated, or its pointer is "
                      "not associated",
                      function);
    if (array->version != CFI_VERSION)
        return refuse(PANTA_ERROR_UNSUPPORTED,
                      "%s: `array` has a descriptor of version %d, and panta_fortran.c "
                      "was compiled for %d: compile it with the ISO_Fortran_binding.h "
                      "of the Fortran compiler",
                      function, array->version, CFI_VERSION);
    /* The rest of the counts and strides is not looked at. */
    read->logical_bytes = 0;
    buffer->size = sizeof *buffer;
    buffer->data = array->base_addr;
    buffer->dtype = dtype_of(array);
    buffer->space = PANTA_HOST;
    buffer->device = 0;
    buffer->dimensions = array->rank;
    if (!buffer->dtype)
        return refuse(PANTA_ERROR_DTYPE,
                      "%s: `array` has elements of %zu bytes that are no integer, real, "
                      "complex or logical of a kind that Panta has",
                      function, array->elem_len);
    if (buffer->dtype == PANTA_TEXT)
        return refuse(PANTA_ERROR_DTYPE,
                      "%s: `array` is of characters; use panta_put_text and panta_get_text",
                      function);
    if (buffer->dtype == PANTA_BOOL && array->elem_len > 1)
        read->logical_bytes = array->elem_len;
    for (int i = 0; i < array->rank; i++) {
        int c = array->rank - 1 - i;
        if (array->dim[i].extent < 0)
            return refuse(PANTA_ERROR_SHAPE,
                          "%s: `array` is of assumed size, and its last extent is not "
                          "known here: pass a section such as array(1:n)",
                          function);
        buffer->count[c] = array->dim[i].extent;
        buffer->strides_bytes[c] = array->dim[i].sm;
    }
    return PANTA_OK;
}

/* Cells of a buffer. */
static int64_t cells(const panta_buffer *buffer)
{
    int64_t product = 1;
    for (int i = 0; i < buffer->dimensions; i++)
        product *= buffer->count[i];
    return product;
}

/* Appends "(1, 2, 3)" in Fortran's order. */
static void say_place(char *words, const char *what, int64_t dimensions, const int64_t *of)
{
    size_t used = strlen(words);
    used += (size_t)snprintf(words + used, WORDS_BYTES - used, "%s(", what);
    for (int64_t i = 0; i < dimensions && used < WORDS_BYTES - 32; i++)
        used += (size_t)snprintf(words + used, WORDS_BYTES - used, i ? ", %lld" : "%lld",
                                 (long long)of[i]);
    snprintf(words + used, WORDS_BYTES - used, ")");
}

/* Ends an explanation whose `words` speak of Fortran's arguments. */
static panta_status in_fortran(panta_status status, char words[WORDS_BYTES])
{
    strncat(words,
            " (Fortran counts from 1 and lists the fastest dimension first; what stands "
            "before counts from 0 and lists the slowest first)",
            WORDS_BYTES - strlen(words) - 1);
    panta_explain(words);
    return status;
}

/* Adds to the library's error what its caller knows the arguments as. */
static void add_arguments(const panta_buffer *buffer, const fortran_place *start,
                          const fortran_place *count)
{
    char words[WORDS_BYTES] = "; `array` is ";
    int64_t shape[PANTA_MAX_DIMS];
    strcat(words, dtype_name(buffer->dtype));
    for (int i = 0; i < buffer->dimensions; i++)
        shape[i] = buffer->count[buffer->dimensions - 1 - i];
    say_place(words, " of shape ", buffer->dimensions, shape);
    if (start->dimensions >= 0)
        say_place(words, ", `start` is ", start->dimensions, start->of);
    if (count->dimensions >= 0)
        say_place(words, ", `count` is ", count->dimensions, count->of);
    in_fortran(PANTA_OK, words);
}

/* The same where the arguments can have to do with it; a good call costs nothing here. */
static inline panta_status explain(panta_status status, const panta_buffer *buffer,
                                   const fortran_place *start,
                                   const fortran_place *count)
{
    if (status == PANTA_ERROR_DTYPE || status == PANTA_ERROR_SHAPE ||
        status == PANTA_ERROR_SELECTION || status == PANTA_ERROR_NOT_COVERED ||
        status == PANTA_ERROR_NO_SUCH_BLOCK)
        add_arguments(buffer, start, count);
    return status;
}

/* Gives the buffer the dimensions of `count`, of which it may lack those that are
 * 1: a plane of a volume is a matrix. */
static panta_status spread_over(const char *function, fortran_array *array,
                                const fortran_place *count)
{
    panta_buffer *buffer = &array->buffer, wide;
    int from = buffer->dimensions;
    wide = *buffer;
    wide.dimensions = (int32_t)count->dimensions;
    for (int64_t i = 0; i < count->dimensions; i++) {
        int64_t c = count->dimensions - 1 - i;
        wide.count[c] = count->of[i];
        wide.strides_bytes[c] = panta_element_bytes(buffer->dtype);
        if (from > 0 && buffer->count[from - 1] == count->of[i])
            wide.strides_bytes[c] = buffer->strides_bytes[--from];
        else if (count->of[i] != 1)
            from = -1;
    }
    while (from > 0 && buffer->count[from - 1] == 1)
        from--;
    if (from != 0) {
        static const fortran_place not_said = {-1, {0}};
        panta_status status = refuse(PANTA_ERROR_SHAPE, "%s: `array` has not the extents of "
                                     "`count`, from which it may leave out ones", function);
        return explain(status, buffer, &not_said, count);
    }
    *buffer = wide;
    return PANTA_OK;
}

/* The same where `count` is given. */
static inline panta_status spread(const char *function, fortran_array *array,
                                  const fortran_place *count)
{
    return count->dimensions < 0 ? PANTA_OK : spread_over(function, array, count);
}

/* Positions from 0, slowest dimension first. */
static panta_status turn(const char *function, const char *name, const fortran_place *given,
                         int64_t first, int64_t *turned)
{
    for (int64_t i = 0; i < given->dimensions; i++) {
        if (given->of[i] < first)
            return refuse(PANTA_ERROR_ARGUMENT, "%s: `%s` has %lld; it is at least %lld",
                          function, name, (long long)given->of[i], (long long)first);
        turned[given->dimensions - 1 - i] = given->of[i] - (first == 1 ? 1 : 0);
    }
    return PANTA_OK;
}

/* ---- Logicals ---- */

/* Visits every element of a strided logical array beside a dense one of bytes. */
static void convert(const fortran_array *array, uint8_t *dense, bool to_dense)
{
    const panta_buffer *buffer = &array->buffer;
    int64_t index[PANTA_MAX_DIMS] = {0}, total = cells(buffer);
    for (int64_t cell = 0; cell < total; cell++) {
        char *at = buffer->data;
        for (int i = 0; i < buffer->dimensions; i++)
            at += index[i] * buffer->strides_bytes[i];
        uint64_t value = to_dense ? 0 : dense[cell];
        /* The hosts that Panta runs on are little-endian. */
        if (to_dense) {
            memcpy(&value, at, array->logical_bytes);
            dense[cell] = value != 0;
        } else {
            memcpy(at, &value, array->logical_bytes);
        }
        for (int i = buffer->dimensions; i-- > 0;) {
            if (++index[i] < buffer->count[i])
                break;
            index[i] = 0;
        }
    }
}

/* Room for an array of booleans, and a buffer of it. */
static uint8_t *room_for(const fortran_array *array, panta_buffer *dense)
{
    int64_t total = cells(&array->buffer);
    uint8_t *room = calloc(total > 0 ? (size_t)total : 1, 1);
    if (room)
        *dense = panta_dense(room, PANTA_BOOL, array->buffer.dimensions, array->buffer.count);
    else
        panta_fail(PANTA_ERROR_IO, "no memory to convert a logical array");
    return room;
}

static void give_back(void *context, void *data)
{
    (void)context;
    free(data);
}

#endif /* PANTA_FORTRAN_ARRAYS_H */
