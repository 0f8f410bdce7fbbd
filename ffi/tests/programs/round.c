/* Every dtype and every kind, written and read: round URL [write|read].
 * Without the second argument both. Step 0 and 1 differ by one in each number,
 * so that a reader in another language can check what it got. */
#include "check.h"

static const int64_t shape[2] = {3, 4};

/* The bytes of element `i` of a dtype in a step. */
static void element(panta_dtype dtype, int i, int step, void *into)
{
    int n = i + step;
    switch (dtype) {
    case PANTA_I8: *(int8_t *)into = (int8_t)(-n); break;
    case PANTA_I16: *(int16_t *)into = (int16_t)(-300 * n); break;
    case PANTA_I32: *(int32_t *)into = -70000 * n; break;
    case PANTA_I64: *(int64_t *)into = -INT64_C(5000000000) * n; break;
    case PANTA_U8: *(uint8_t *)into = (uint8_t)(200 + n); break;
    case PANTA_U16: *(uint16_t *)into = (uint16_t)(60000 + n); break;
    case PANTA_U32: *(uint32_t *)into = 4000000000u + (uint32_t)n; break;
    case PANTA_U64: *(uint64_t *)into = UINT64_MAX - (uint64_t)n; break;
    case PANTA_F32: *(float *)into = 0.5f * (float)n; break;
    case PANTA_F64: *(double *)into = 0.1 * n; break;
    case PANTA_COMPLEX64:
        ((float *)into)[0] = (float)n;
        ((float *)into)[1] = -(float)n;
        break;
    case PANTA_COMPLEX128:
        ((double *)into)[0] = (double)n;
        ((double *)into)[1] = -(double)n;
        break;
    default: *(uint8_t *)into = (uint8_t)(n % 2); break;
    }
}

/* A whole 3 x 4 array in memory of the largest element's alignment. */
static void *array(panta_dtype dtype, int step)
{
    int64_t bytes = panta_element_bytes(dtype);
    char *data = (char *)malloc((size_t)(12 * bytes));
    for (int i = 0; i < 12; i++)
        element(dtype, i, step, data + i * bytes);
    return data;
}

static void name_of(panta_dtype dtype, char *name)
{
    snprintf(name, 16, "array_%d", (int)dtype);
}

static void count_release(void *context, void *data)
{
    ++*(int *)context;
    free(data);
}

/* The variables of a stream; arrays by dtype. */
typedef struct variables {
    panta_variable arrays[14], local, joined, value, values, text, texts, holes;
} variables;

static void define(panta_writer *out, variables *v)
{
    static const char *const dims[2] = {"y", "x"};
    static const char *const coordinates[1] = {"array_9"};
    static const double fill = -1.5;
    static const int64_t chunk[2] = {2, 2}, joined[2] = {0, 4};
    char name[16];
    for (panta_dtype dtype = PANTA_I8; dtype <= PANTA_BOOL; dtype++) {
        name_of(dtype, name);
        panta_definition definition = panta_global(name, dtype, 2, shape);
        definition.dimension_names = dims;
        definition.unit = "K";
        definition.coordinates = coordinates;
        definition.coordinates_count = 1;
        CHECK(panta_define(out, &definition, &v->arrays[dtype]));
    }
    panta_definition definition = panta_local("local", PANTA_I32, 1);
    CHECK(panta_define(out, &definition, &v->local));
    definition = panta_joined("joined", PANTA_F64, 2, joined, 0);
    CHECK(panta_define(out, &definition, &v->joined));
    definition = panta_global_value("value", PANTA_F64);
    CHECK(panta_define(out, &definition, &v->value));
    definition = panta_local_value("values", PANTA_U16);
    CHECK(panta_define(out, &definition, &v->values));
    definition = panta_global_value("text", PANTA_TEXT);
    CHECK(panta_define(out, &definition, &v->text));
    definition = panta_local_value("texts", PANTA_TEXT);
    CHECK(panta_define(out, &definition, &v->texts));
    definition = panta_global("holes", PANTA_F64, 2, shape);
    definition.fill = &fill;
    definition.chunk = chunk;
    definition.absolute_accuracy = 0.3; /* to halves, at most 0.25 off */
    CHECK(panta_define(out, &definition, &v->holes));
}

static void attributes(panta_writer *out, const variables *v)
{
    static const int64_t ints[2] = {-1, INT64_MIN};
    static const uint64_t uints[1] = {UINT64_MAX};
    static const double floats[3] = {0.5, -0.25, 1e300};
    static const char *const texts[2] = {"eins", "zw\xc3\xb6lf"};
    CHECK(panta_set_attribute_i64(out, PANTA_STREAM, "int", -7));
    CHECK(panta_set_attribute_u64(out, PANTA_STREAM, "uint", UINT64_MAX));
    CHECK(panta_set_attribute_f64(out, PANTA_STREAM, "float", 2.5));
    CHECK(panta_set_attribute_text(out, v->value, "text", "of the value"));
    CHECK(panta_set_attribute_i64s(out, v->value, "ints", ints, 2));
    CHECK(panta_set_attribute_u64s(out, v->value, "uints", uints, 1));
    CHECK(panta_set_attribute_f64s(out, v->value, "floats", floats, 3));
    CHECK(panta_set_attribute_texts(out, v->value, "texts", texts, 2));
    CHECK(panta_set_attribute_i64s(out, v->value, "none", NULL, 0));
}

/* Arrays in each of the three lifetimes: captured, span, lent. */
static void put_arrays(panta_writer *out, const variables *v, int step,
                       int *released, void *captured[14])
{
    static const int64_t start[2] = {0, 0};
    for (panta_dtype dtype = PANTA_I8; dtype <= PANTA_BOOL; dtype++) {
        void *data = array(dtype, step);
        panta_buffer buffer = panta_dense(data, dtype, 2, shape);
        captured[dtype] = NULL;
        if (dtype % 3 == 0) {
            CHECK(panta_put_owned(out, v->arrays[dtype], start, &buffer,
                                  count_release, released));
        } else if (dtype % 3 == 1 && dtype != PANTA_BOOL) {
            void *memory;
            CHECK(panta_span(out, v->arrays[dtype], dtype, start, shape,
                             &memory));
            THAT((uintptr_t)memory % 64 == 0);
            memcpy(memory, data, (size_t)(12 * panta_element_bytes(dtype)));
            free(data);
        } else {
            CHECK(panta_put(out, v->arrays[dtype], NULL, &buffer));
            captured[dtype] = data;
        }
    }
}

static void put_others(panta_writer *out, const variables *v, int step)
{
    /* A 3 x 4 field within ghost cells, kept static: it must outlive the step. */
    static double ghosted[5][7];
    static int32_t locals[5] = {10, 11, 12, 13, 14};
    static const int64_t memory[2] = {5, 7}, first[2] = {1, 2};
    static const int64_t corner[2] = {1, 1}, two[2] = {2, 2};
    for (int y = 0; y < 5; y++)
        for (int x = 0; x < 7; x++)
            ghosted[y][x] = 100 * step + 10 * y + x;
    for (int64_t n = 2; n <= 3; n++) {
        panta_buffer local = panta_dense(locals, PANTA_I32, 1, &n);
        CHECK(panta_put(out, v->local, NULL, &local));
        int64_t rows[2] = {n, 4};
        panta_buffer joined =
            panta_ghosted(ghosted, PANTA_F64, 2, memory, first, rows);
        CHECK(panta_put(out, v->joined, NULL, &joined));
    }
    panta_buffer holes = panta_ghosted(ghosted, PANTA_F64, 2, memory, first, two);
    CHECK(panta_put(out, v->holes, corner, &holes));
    double value = 4.5 + step;
    uint16_t many[2] = {7, 8};
    CHECK(panta_put_value(out, v->value, PANTA_F64, &value));
    value = 0;
    CHECK(panta_put_value(out, v->values, PANTA_U16, &many[0]));
    CHECK(panta_put_value(out, v->values, PANTA_U16, &many[1]));
    CHECK(panta_put_text(out, v->text, step ? "second" : "first"));
    CHECK(panta_put_text(out, v->texts, ""));
    CHECK(panta_put_text(out, v->texts, "b"));
}

static void write_stream(const char *url)
{
    panta_writer *out;
    variables v;
    void *captured[14];
    int released = 0, rank = -1, size = -1;
    panta_writer_options options = panta_default_writer_options();
    options.deadline_ms = 30000;
    CHECK(panta_writer_open(url, NULL, &options, &out));
    CHECK(panta_writer_group(out, &rank, &size));
    THAT(rank == 0 && size == 1);
    define(out, &v);
    attributes(out, &v);
    for (int step = 0; step < 2; step++) {
        int64_t number = -1;
        panta_sealed sealed = PANTA_SIZED(panta_sealed);
        CHECK(panta_begin_step(out, step ? 0.25 : PANTA_NO_TIME, &number));
        THAT(number == step);
        int32_t discarded = -1;
        CHECK(panta_is_discarded(out, &discarded));
        THAT(discarded == 0);
        put_arrays(out, &v, step, &released, captured);
        put_others(out, &v, step);
        THAT(released == 4 * step);
        CHECK(panta_end_step(out, &sealed));
        THAT(released == 4 * (step + 1));
        THAT(sealed.step == step && !sealed.discarded);
        for (panta_dtype dtype = PANTA_I8; dtype <= PANTA_BOOL; dtype++)
            free(captured[dtype]);
    }
    /* A step that is given up leaves no trace, and lends nothing on. */
    CHECK(panta_begin_step_of(out, 9.0, 4096, NULL));
    put_arrays(out, &v, 2, &released, captured);
    CHECK(panta_abort_step(out));
    THAT(released == 12);
    for (panta_dtype dtype = PANTA_I8; dtype <= PANTA_BOOL; dtype++)
        free(captured[dtype]);
    panta_copies copies = PANTA_SIZED(panta_copies);
    CHECK(panta_writer_copies(out, &copies));
    THAT(copies.bytes > 0 && copies.calls > 0);
    panta_engine_info engine = PANTA_SIZED(panta_engine_info);
    CHECK(panta_writer_engine(out, &engine));
    THAT(strcmp(engine.engine, "file") == 0 && engine.why[0]);
    CHECK(panta_writer_close(out));
}

static void read_arrays(panta_step *step, int number)
{
    char name[16];
    for (panta_dtype dtype = PANTA_I8; dtype <= PANTA_BOOL; dtype++) {
        size_t bytes = (size_t)(12 * panta_element_bytes(dtype));
        void *expected = array(dtype, number), *got = malloc(bytes);
        panta_variable_info info = PANTA_SIZED(panta_variable_info);
        panta_buffer buffer = panta_dense(got, dtype, 2, shape);
        name_of(dtype, name);
        CHECK(panta_find_variable(step, name, &info));
        THAT(info.dtype == dtype && info.kind == PANTA_GLOBAL_ARRAY);
        THAT(info.dimensions == 2 && info.shape[0] == 3 && info.shape[1] == 4);
        THAT(strcmp(info.dimension_names[1], "x") == 0);
        THAT(strcmp(info.unit, "K") == 0 && info.coordinates_count == 1);
        THAT(strcmp(info.coordinates[0], "array_9") == 0);
        THAT(!info.fill && info.blocks == 1 && info.joined_dimension == -1);
        CHECK(panta_get(step, name, NULL, &buffer));
        THAT(memcmp(expected, got, bytes) == 0);
        free(expected);
        free(got);
    }
    panta_variable_info info = PANTA_SIZED(panta_variable_info);
    CHECK(panta_find_variable(step, "array_8", &info));
    THAT(info.stats.known && info.stats.max.dtype == PANTA_U64);
    THAT(info.stats.max.u64 == UINT64_MAX - (uint64_t)number);
    CHECK(panta_find_variable(step, "array_3", &info));
    THAT(info.stats.max.i64 == -70000 * number && info.stats.nans == 0);
    CHECK(panta_find_variable(step, "array_10", &info));
    THAT(info.stats.min.dtype == PANTA_F64 && info.stats.min.f64 == 0.1 * number);
}

static void read_selections(panta_step *step, int number)
{
    static const int64_t start[2] = {0, 1}, count[2] = {2, 2}, stride[2] = {2, 2};
    double got[2][2], ghosted[4][4] = {{0}};
    panta_selection selection = panta_strided(2, start, count, stride);
    panta_buffer buffer = panta_dense(got, PANTA_F64, 2, count);
    CHECK(panta_get(step, "array_10", &selection, &buffer));
    for (int y = 0; y < 2; y++)
        for (int x = 0; x < 2; x++)
            THAT(got[y][x] == 0.1 * (4 * 2 * y + 1 + 2 * x + number));
    /* Into the middle of memory, the rest of which stays as it is. */
    static const int64_t memory[2] = {4, 4}, first[2] = {1, 1};
    panta_selection box = panta_box(2, start, count);
    buffer = panta_ghosted(ghosted, PANTA_F64, 2, memory, first, count);
    CHECK(panta_get(step, "array_10", &box, &buffer));
    THAT(ghosted[0][0] == 0 && ghosted[3][3] == 0 && ghosted[2][3] == 0);
    THAT(ghosted[2][1] == 0.1 * (4 + 1 + number));
    /* To the end: what is selected can be asked before it is got. */
    int64_t sides[PANTA_MAX_DIMS];
    int32_t dimensions = 0;
    box = panta_box(2, start, NULL);
    CHECK(panta_selected(step, "array_10", &box, &dimensions, sides));
    THAT(dimensions == 2 && sides[0] == 3 && sides[1] == 3);
    /* Fill around the block at (1, 1). */
    double holes[3][4];
    buffer = panta_dense(holes, PANTA_F64, 2, shape);
    CHECK(panta_get(step, "holes", NULL, &buffer));
    THAT(holes[0][0] == -1.5 && holes[2][3] == -1.5);
    THAT(holes[1][1] == 100 * number + 12 && holes[2][2] == 100 * number + 23);
    panta_variable_info info = PANTA_SIZED(panta_variable_info);
    CHECK(panta_find_variable(step, "holes", &info));
    double fill;
    memcpy(&fill, info.fill, sizeof fill);
    THAT(fill == -1.5 && info.chunk[0] == 2);
    THAT(info.absolute_accuracy == 0.3 && info.relative_accuracy == 0);
}

static void read_blocks(panta_step *step, int number)
{
    panta_block_info block = PANTA_SIZED(panta_block_info);
    CHECK(panta_block_at(step, "local", 1, &block));
    THAT(block.rank == 0 && block.dimensions == 1 && block.count[0] == 3);
    THAT(block.stats.known && block.stats.max.i64 == 12);
    EXPECT(PANTA_ERROR_NO_SUCH_BLOCK, panta_block_at(step, "local", 2, &block));
    int32_t local[3];
    int64_t three = 3;
    panta_selection selection = panta_block(1);
    panta_buffer buffer = panta_dense(local, PANTA_I32, 1, &three);
    CHECK(panta_get(step, "local", &selection, &buffer));
    THAT(local[0] == 10 && local[2] == 12);
    /* A part of a block. */
    int64_t one = 1, two = 2;
    selection = panta_box(1, &one, &two);
    selection.block = 1;
    buffer = panta_dense(local, PANTA_I32, 1, &two);
    CHECK(panta_get(step, "local", &selection, &buffer));
    THAT(local[0] == 11 && local[1] == 12);
    double joined[5][4];
    int64_t rows[2] = {5, 4};
    buffer = panta_dense(joined, PANTA_F64, 2, rows);
    CHECK(panta_get(step, "joined", NULL, &buffer));
    THAT(joined[0][0] == 100 * number + 12 && joined[1][3] == 100 * number + 25);
    THAT(joined[2][0] == joined[0][0] && joined[4][0] == 100 * number + 32);
}

static void read_values(panta_step *step, int number)
{
    double value = 0;
    uint16_t values[2] = {0, 0};
    int64_t two = 2;
    const char *text = NULL;
    size_t length = 9;
    CHECK(panta_get_value(step, "value", PANTA_F64, &value));
    THAT(value == 4.5 + number);
    /* Two reads together. */
    panta_batch *batch;
    panta_buffer many = panta_dense(values, PANTA_U16, 1, &two);
    panta_buffer one = panta_dense(&value, PANTA_F64, 0, NULL);
    value = 0;
    CHECK(panta_batch_open(step, &batch));
    CHECK(panta_batch_get(batch, "values", NULL, &many));
    CHECK(panta_batch_get(batch, "value", NULL, &one));
    CHECK(panta_batch_finish(batch));
    THAT(values[0] == 7 && values[1] == 8 && value == 4.5 + number);
    EXPECT(PANTA_ERROR_CLOSED_HANDLE, panta_batch_close(batch));
    CHECK(panta_get_text(step, "text", 0, &text, &length));
    THAT(strcmp(text, number ? "second" : "first") == 0 && length == strlen(text));
    CHECK(panta_get_text(step, "texts", 1, &text, NULL));
    THAT(strcmp(text, "b") == 0);
    CHECK(panta_get_text(step, "texts", 0, &text, NULL));
    THAT(strcmp(text, "") == 0);
    EXPECT(PANTA_ERROR_NO_SUCH_BLOCK, panta_get_text(step, "texts", 2, &text, NULL));
}

static void read_attributes(panta_step *step)
{
    panta_attribute a = PANTA_SIZED(panta_attribute);
    CHECK(panta_find_attribute(step, NULL, "int", &a));
    THAT(a.dtype == PANTA_I64 && a.count == 1 && !a.is_array && a.i64s[0] == -7);
    THAT(!a.variable && strcmp(a.name, "int") == 0 && !a.texts);
    CHECK(panta_find_attribute(step, NULL, "uint", &a));
    THAT(a.dtype == PANTA_U64 && a.u64s[0] == UINT64_MAX);
    CHECK(panta_find_attribute(step, NULL, "float", &a));
    THAT(a.dtype == PANTA_F64 && a.f64s[0] == 2.5);
    CHECK(panta_find_attribute(step, "value", "text", &a));
    THAT(a.dtype == PANTA_TEXT && strcmp(a.texts[0], "of the value") == 0);
    THAT(strcmp(a.variable, "value") == 0);
    CHECK(panta_find_attribute(step, "value", "ints", &a));
    THAT(a.is_array && a.count == 2 && a.i64s[1] == INT64_MIN);
    CHECK(panta_find_attribute(step, "value", "uints", &a));
    THAT(a.is_array && a.count == 1 && a.u64s[0] == UINT64_MAX);
    CHECK(panta_find_attribute(step, "value", "floats", &a));
    THAT(a.count == 3 && a.f64s[2] == 1e300);
    CHECK(panta_find_attribute(step, "value", "texts", &a));
    THAT(a.count == 2 && strcmp(a.texts[1], "zw\xc3\xb6lf") == 0);
    CHECK(panta_find_attribute(step, "value", "none", &a));
    THAT(a.is_array && a.count == 0);
    EXPECT(PANTA_ERROR_UNKNOWN_ATTRIBUTE,
           panta_find_attribute(step, NULL, "itn", &a));
    THAT(strstr(panta_error_message(), "`int`"));
}

static void read_stream(const char *url)
{
    panta_reader *in;
    panta_step *step, *kept = NULL;
    int steps = 0;
    CHECK(panta_reader_open(url, NULL, NULL, &in));
    panta_status status;
    while ((status = panta_next_step(in, 30000, &step)) == PANTA_OK) {
        panta_step_info info = PANTA_SIZED(panta_step_info);
        CHECK(panta_step_describe(step, &info));
        THAT(info.number == steps && info.epoch == 1 && info.variables == 20);
        THAT(steps ? info.time == 0.25 : info.time != info.time);
        THAT(info.wall_clock_ns > 0 && info.attributes == 9);
        read_arrays(step, steps);
        read_selections(step, steps);
        read_blocks(step, steps);
        read_values(step, steps);
        read_attributes(step);
        for (uint64_t i = 0; i < info.variables; i++) {
            panta_variable_info variable = PANTA_SIZED(panta_variable_info);
            CHECK(panta_variable_at(step, i, &variable));
            THAT(variable.name[0]);
        }
        if (steps == 0) {
            kept = step;
            CHECK(panta_step_detach(kept));
        }
        CHECK(panta_commit(in, step, "test"));
        steps++;
    }
    THAT(status == PANTA_END_OF_STREAM && !step && steps == 2);
    CHECK(panta_reader_close(in));
    /* A detached step outlives its reader. */
    read_arrays(kept, 0);
    CHECK(panta_step_close(kept));
    EXPECT(PANTA_ERROR_CLOSED_HANDLE, panta_step_close(kept));
    /* From the cursor on there is nothing left. */
    panta_reader_options options = panta_default_reader_options();
    options.start = PANTA_START_CURSOR;
    options.cursor = "test";
    CHECK(panta_reader_open(url, NULL, &options, &in));
    EXPECT(PANTA_END_OF_STREAM, panta_next_step(in, PANTA_CONFIGURED, &step));
    CHECK(panta_reader_close(in));
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    if (argc < 3 || strcmp(argv[2], "write") == 0)
        write_stream(argv[1]);
    if (argc < 3 || strcmp(argv[2], "read") == 0)
        read_stream(argv[1]);
    return 0;
}
