#ifndef PANTA_MAKERS_H
#define PANTA_MAKERS_H

/* Makers of the structs above. */

/* Sets the size of a struct that is to be filled in:
 *     panta_step_info info = PANTA_SIZED(panta_step_info);                   */
#ifdef __cplusplus
#define PANTA_SIZED(type) (panta_sized_<type>())
template <typename T> static inline T panta_sized_(void)
{
    T value = T();
    value.size = sizeof(T);
    return value;
}
#else
#define PANTA_SIZED(type) {.size = sizeof(type)}
#endif

/* A cast that compilers of C++ have nothing to say about. */
#ifdef __cplusplus
#define PANTA_CAST_(type, value) (reinterpret_cast<type>(value))
#else
#define PANTA_CAST_(type, value) ((type)(value))
#endif

/* Fails, with both versions in its words, if the library that was loaded is older
 * than this header: then it lacks what the header promises. To be called first;
 * panta.hpp and the Fortran module do so when they open something. */
static inline panta_status panta_check_version(void)
{
    return panta_require_version(PANTA_VERSION_NUMBER);
}

/* The bytes of one element; 0 for texts and for what is no type. */
static inline int64_t panta_element_bytes(panta_dtype dtype)
{
    static const int8_t bytes[15] = {0, 1, 2, 4, 8, 1, 2, 4,
                                     8, 4, 8, 8, 16, 1, 0};
    return dtype > 0 && dtype < 15 ? bytes[dtype] : 0;
}

/* How to open when NULL is not enough. */
static inline panta_writer_options panta_default_writer_options(void)
{
    panta_writer_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.deadline_ms = PANTA_CONFIGURED;
    return options;
}

static inline panta_reader_options panta_default_reader_options(void)
{
    panta_reader_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    return options;
}

/* A variable of any kind; the pointers are used until panta_define returns. */
static inline panta_definition panta_definition_of(const char *name,
                                                   panta_dtype dtype,
                                                   panta_kind kind,
                                                   int32_t dimensions,
                                                   const int64_t *shape)
{
    panta_definition definition;
    memset(&definition, 0, sizeof definition);
    definition.size = sizeof definition;
    definition.name = name;
    definition.dtype = dtype;
    definition.kind = kind;
    definition.dimensions = dimensions;
    for (int32_t i = 0; shape && i < dimensions && i < PANTA_MAX_DIMS; i++)
        definition.shape[i] = shape[i];
    return definition;
}

/* One array of this shape; blocks are boxes of it. */
static inline panta_definition panta_global(const char *name, panta_dtype dtype,
                                            int32_t dimensions,
                                            const int64_t *shape)
{
    return panta_definition_of(name, dtype, PANTA_GLOBAL_ARRAY, dimensions,
                               shape);
}

/* Blocks of any size, read one by one. */
static inline panta_definition panta_local(const char *name, panta_dtype dtype,
                                           int32_t dimensions)
{
    return panta_definition_of(name, dtype, PANTA_LOCAL_ARRAY, dimensions,
                               NULL);
}

/* Blocks joined along one dimension in the order (rank, put); `shape` gives the
 * other dimensions, its entry for the joined one does not count. */
static inline panta_definition panta_joined(const char *name, panta_dtype dtype,
                                            int32_t dimensions,
                                            const int64_t *shape,
                                            int32_t joined_dimension)
{
    panta_definition definition = panta_definition_of(
        name, dtype, PANTA_JOINED_ARRAY, dimensions, shape);
    definition.joined_dimension = joined_dimension;
    return definition;
}

/* One value for the whole stream. */
static inline panta_definition panta_global_value(const char *name,
                                                  panta_dtype dtype)
{
    return panta_definition_of(name, dtype, PANTA_GLOBAL_VALUE, 0, NULL);
}

/* One value for each put. */
static inline panta_definition panta_local_value(const char *name,
                                                 panta_dtype dtype)
{
    return panta_definition_of(name, dtype, PANTA_LOCAL_VALUE, 0, NULL);
}

/* A box of `count` cells that begins at cell `first` of an array of
 * `memory_count` cells in memory: a field without its ghost cells. To be put,
 * or got into. Like the library, it leaves what is beyond the dimensions alone. */
static inline panta_buffer panta_ghosted(void *memory, panta_dtype dtype,
                                         int32_t dimensions,
                                         const int64_t *memory_count,
                                         const int64_t *first,
                                         const int64_t *count)
{
    panta_buffer buffer;
    int64_t stride = panta_element_bytes(dtype), offset = 0;
    buffer.size = sizeof buffer;
    buffer.dtype = dtype;
    buffer.space = PANTA_HOST;
    buffer.device = 0;
    buffer.dimensions = dimensions;
    for (int32_t i = dimensions < PANTA_MAX_DIMS ? dimensions : PANTA_MAX_DIMS;
         i-- > 0;) {
        buffer.count[i] = count[i];
        buffer.strides_bytes[i] = stride;
        offset += first ? first[i] * stride : 0;
        stride *= memory_count[i];
    }
    buffer.data = memory ? PANTA_CAST_(char *, memory) + offset : NULL;
    return buffer;
}

/* A whole array, one element after the other, the last dimension fastest. */
static inline panta_buffer panta_dense(void *data, panta_dtype dtype,
                                       int32_t dimensions,
                                       const int64_t *count)
{
    return panta_ghosted(data, dtype, dimensions, count, NULL, count);
}

/* The same two of memory that is only read: to be put, and not got into. */
static inline panta_buffer panta_ghosted_const(const void *memory,
                                               panta_dtype dtype,
                                               int32_t dimensions,
                                               const int64_t *memory_count,
                                               const int64_t *first,
                                               const int64_t *count)
{
    return panta_ghosted(PANTA_CAST_(void *, PANTA_CAST_(uintptr_t, memory)), dtype, dimensions,
                         memory_count, first, count);
}

static inline panta_buffer panta_dense_const(const void *data,
                                             panta_dtype dtype,
                                             int32_t dimensions,
                                             const int64_t *count)
{
    return panta_ghosted_const(data, dtype, dimensions, count, NULL, count);
}

/* Everything: as NULL in place of a selection, but to be changed. */
static inline panta_selection panta_all(void)
{
    panta_selection selection;
    memset(&selection, 0, sizeof selection);
    selection.size = sizeof selection;
    selection.block = PANTA_NO_BLOCK;
    return selection;
}

/* `count` cells from `start`, every `stride`-th. NULL as start is zeros, as
 * count up to the end, as stride ones. */
static inline panta_selection panta_strided(int32_t dimensions,
                                            const int64_t *start,
                                            const int64_t *count,
                                            const int64_t *stride)
{
    panta_selection selection;
    selection.size = sizeof selection;
    selection.block = PANTA_NO_BLOCK;
    selection.dimensions = dimensions;
    selection.reserved = 0;
    for (int32_t i = 0; i < dimensions && i < PANTA_MAX_DIMS; i++) {
        selection.start[i] = start ? start[i] : 0;
        selection.count[i] = count ? count[i] : PANTA_TO_END;
        selection.stride[i] = stride ? stride[i] : 1;
    }
    return selection;
}

/* The box of `count` cells that begins at `start`. */
static inline panta_selection panta_box(int32_t dimensions,
                                        const int64_t *start,
                                        const int64_t *count)
{
    return panta_strided(dimensions, start, count, NULL);
}

/* One block, whole. To take a part of it, set `block` of a box: its positions
 * are then relative to the block's first cell. */
static inline panta_selection panta_block(int64_t block)
{
    panta_selection selection;
    selection.size = sizeof selection;
    selection.block = block;
    selection.dimensions = 0;
    selection.reserved = 0;
    return selection;
}

#endif /* PANTA_MAKERS_H */
