/* panta.h: the C interface of Panta, which moves the arrays of a running
 * simulation, step by step, to the programs that want them.
 *
 * Writing.  A stream is opened by name; what carries it (a file, servers, a
 * direct connection) is a URL in the environment or in panta.toml, not a line
 * of code. Each rank puts its blocks of global arrays, step by step:
 *
 *     panta_writer *out;
 *     panta_variable u;
 *     panta_writer_open("run42", comm, NULL, &out);
 *     panta_definition definition = panta_global("u", PANTA_F64, 2, shape);
 *     panta_define(out, &definition, &u);
 *     while (running) {
 *         panta_begin_step(out, time, NULL);
 *         panta_buffer field = panta_dense(data, PANTA_F64, 2, count);
 *         panta_put(out, u, start, &field);
 *         panta_end_step(out, NULL);
 *     }
 *     panta_writer_close(out);
 *
 * Open, begin, end and close are collective over the ranks of `comm` (NULL: one
 * rank; panta_mpi.h makes one of an MPI_Comm), also for a rank with nothing to
 * put, and have the same outcome on every rank.
 *
 * Reading.  Who reads needs not know how many writers there were:
 *
 *     panta_reader *in;
 *     panta_step *step;
 *     panta_reader_open("run42", NULL, NULL, &in);
 *     while (panta_next_step(in, PANTA_CONFIGURED, &step) == PANTA_OK) {
 *         panta_selection box = panta_box(2, start, count);
 *         panta_buffer into = panta_dense(data, PANTA_F64, 2, count);
 *         panta_get(step, "u", &box, &into);
 *     }
 *     panta_reader_close(in);
 *
 * A step is seen whole or not at all. Dimensions are listed slowest first, as C
 * lays arrays out. Nothing is converted: elements are got as what they are.
 *
 * Both.  A reader holds its step until it asks for the next one or closes, and a
 * writer that closes waits, up to its deadline, until its readers have let go of
 * all that it wrote. So of two programs that write to each other, each asks for
 * the next step, or closes its reader, before it closes its writer: else both
 * wait for each other.
 *
 * Whose memory, until when.  What is put has one of three lifetimes:
 *   captured   panta_put: yours; left in place and unchanged until the step's
 *              end returns. One copy, made during that call and never later.
 *   span       panta_span: the transport's; you compute into it until you call
 *              the step's end. No copy.
 *   lent       panta_put_owned: yours, and the library's until it calls
 *              `release`. No copy where the transport can do without.
 * What is got goes into your memory within panta_get, or panta_batch_finish. A
 * panta_view is the transport's memory, until panta_view_close. Texts and arrays
 * in info structs are the library's; each struct says for how long.
 *
 * Errors.  Every function returns a panta_status. What it was about, what, where
 * and what to try, is kept for each thread: panta_error_message() and its
 * siblings. A rank's failure in a step comes out of panta_end_step on every
 * rank. Nothing waits without a deadline, and panta_interrupt ends a wait early.
 *
 * Handles.  What is closed, was never open or is of another kind is an error
 * (PANTA_ERROR_CLOSED_HANDLE, PANTA_ERROR_INVALID_HANDLE, PANTA_ERROR_NULL),
 * not a crash. A handle is used by one thread at a time, whichever it is;
 * two at once get PANTA_ERROR_BUSY_HANDLE. Only panta_interrupt may be called at
 * any time, and steps may be read from by several threads. In the child of a fork
 * what the parent opened is refused (PANTA_ERROR_REFUSED); it opens its own.
 *
 * Structs start with their size, which the makers at the end of this header set
 * for you (panta_global, panta_dense, panta_box, PANTA_SIZED). So fields can be
 * added at their ends without breaking programs that are there.
 *
 * The library prints nothing, never exits, installs no signal handler, starts
 * no thread you did not cause, and links no MPI. Texts are UTF-8 and end in NUL.
 *
 * C99 and C++17. Link with -lpanta. C++ has panta.hpp, on top of this one.
 * Made from the library's source by its tests; not to be edited.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0 */


#ifndef PANTA_H
#define PANTA_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* The version of this header. */
#define PANTA_VERSION_MAJOR 0
#define PANTA_VERSION_MINOR 1
#define PANTA_VERSION_PATCH 0

/* As one number that grows with it: major * 1000000 + minor * 1000 + patch. */
#define PANTA_VERSION_NUMBER                                                   \
    (UINT32_C(1000000) * PANTA_VERSION_MAJOR +                                 \
     UINT32_C(1000) * PANTA_VERSION_MINOR + PANTA_VERSION_PATCH)

/* As panta_begin_step's time: there is none. */
#define PANTA_NO_TIME ((double)NAN)


/**
 * The most dimensions a variable can have.
 */
#define PANTA_MAX_DIMS 16

/**
 * As a deadline in milliseconds: the one configured for the stream.
 */
#define PANTA_CONFIGURED -1

/**
 * As a count in a selection: up to the end of the dimension.
 */
#define PANTA_TO_END -1

/**
 * As the block of a selection: the array as a whole.
 */
#define PANTA_NO_BLOCK -1

/**
 * As the variable of an attribute: the stream itself.
 */
#define PANTA_STREAM 0

/**
 * Several reads of a step that are done together.
 */
typedef struct panta_batch panta_batch;

/**
 * The ranks that open a stream together.
 */
typedef struct panta_comm panta_comm;

/**
 * Ends the waits of whatever was opened with it.
 */
typedef struct panta_interrupter panta_interrupter;

/**
 * One rank's end of a stream that is read.
 */
typedef struct panta_reader panta_reader;

/**
 * A sealed step, to be read from.
 */
typedef struct panta_step panta_step;

/**
 * A block in the transport's own memory.
 */
typedef struct panta_view panta_view;

/**
 * One rank's end of a stream that is written.
 */
typedef struct panta_writer panta_writer;

/**
 * What a call came to: PANTA_OK, one of the two answers that are no errors,
 * or an error; panta_error_message() then tells more.
 */
typedef int32_t panta_status;

/**
 * A communicator of the caller's making: who the ranks are, and one
 * collective. panta_mpi.h fills one from an MPI_Comm.
 */
typedef struct {
    /**
     * sizeof(panta_comm_vtable)
     */
    size_t size;
    /**
     * Handed to both functions; the library does not look at it.
     */
    void *context;
    /**
     * This rank's number, from 0.
     */
    int32_t rank;
    /**
     * How many ranks the group has.
     */
    int32_t size_of_group;
    /**
     * Gathers `bytes_each` bytes of every rank, in rank order, into `all`, on
     * every rank; used while a stream opens, on the thread that opens it.
     * Returns PANTA_OK, PANTA_ERROR_DEADLINE if `deadline_ms` have passed, or
     * any other error, with its reason in the `why_bytes` bytes at `why`. After
     * an error the library leaves `mine` and `all` in place for good, since a
     * message may still be under way, and does not call again.
     */
    panta_status (*allgather)(void *context,
                              const void *mine,
                              void *all,
                              uint64_t bytes_each,
                              int64_t deadline_ms,
                              char *why,
                              size_t why_bytes);
    /**
     * Called once, by panta_comm_close. May be NULL.
     */
    void (*release)(void *context);
} panta_comm_vtable;

/**
 * What a writer does with steps that are already there.
 */
typedef int32_t panta_resume;

/**
 * How to open a stream for writing; see panta_default_writer_options().
 */
typedef struct {
    /**
     * sizeof(panta_writer_options)
     */
    size_t size;
    /**
     * What becomes of steps that are already there.
     */
    panta_resume resume;
    /**
     * 0.
     */
    int32_t reserved;
    /**
     * With PANTA_RESUME_AFTER, the step after which to go on.
     */
    int64_t resume_step;
    /**
     * How long each wait after the opening may take, in milliseconds, or
     * PANTA_CONFIGURED.
     */
    int64_t deadline_ms;
    /**
     * Ends the waits of the opening, and later those of the writer, as
     * panta_interrupt does; NULL for none.
     */
    panta_interrupter *interrupter;
    /**
     * 0: progress is made as the configuration says, on threads of the library
     * unless it says `progress=manual`. More than 0: it is made by hand, no
     * thread is started, and this is how long the program may stay away between
     * two calls, in milliseconds, before its peers hold it dead; see
     * panta_progress.
     */
    int64_t silence_ms;
} panta_writer_options;

/**
 * A step's identity and times.
 */
typedef struct {
    /**
     * sizeof(panta_step_info), set by the caller.
     */
    size_t size;
    /**
     * Its number, from 0; numbers of dropped steps are not used again.
     */
    int64_t number;
    /**
     * The life of the writer that made it; the first is 1.
     */
    int64_t epoch;
    /**
     * Simulation time; a NaN if the writer gave none.
     */
    double time;
    /**
     * Nanoseconds since 1970 at the writer's root rank, when the step began.
     */
    int64_t wall_clock_ns;
    /**
     * How many variables were put in it.
     */
    uint64_t variables;
    /**
     * How many attributes are in force.
     */
    uint64_t attributes;
} panta_step_info;

/**
 * How a step that was ended came out.
 */
typedef struct {
    /**
     * sizeof(panta_sealed), set by the caller.
     */
    size_t size;
    /**
     * The step's number.
     */
    int64_t step;
    /**
     * 1 if the stream's policy discarded it: readers will not see it.
     */
    int32_t discarded;
    /**
     * 0.
     */
    int32_t reserved;
} panta_sealed;

/**
 * What carries a stream, and why. The pointers are the handle's own and live
 * until it is closed, or asked again.
 */
typedef struct {
    /**
     * sizeof(panta_engine_info), set by the caller.
     */
    size_t size;
    /**
     * The engine's scheme, such as "file".
     */
    const char *engine;
    /**
     * The transport in use.
     */
    const char *transport;
    /**
     * Why this one.
     */
    const char *why;
} panta_engine_info;

/**
 * A variable of one writer, as panta_define gives it.
 */
typedef uint64_t panta_variable;

/**
 * The type of a variable's elements. The numbers are frozen.
 */
typedef int32_t panta_dtype;

/**
 * Where memory is. Only the host's can be used now; the others are refused
 * with PANTA_ERROR_UNSUPPORTED, and can come without a change of interface.
 */
typedef int32_t panta_space;

/**
 * An array in memory: what is put, or got into. panta_dense and panta_ghosted
 * below fill one in.
 */
typedef struct {
    /**
     * sizeof(panta_buffer)
     */
    size_t size;
    /**
     * The first element.
     */
    void *data;
    /**
     * What the elements are.
     */
    panta_dtype dtype;
    /**
     * Where the memory is.
     */
    panta_space space;
    /**
     * Which device, where `space` is one's; else 0.
     */
    int32_t device;
    /**
     * The number of dimensions, as many as the variable has.
     */
    int32_t dimensions;
    /**
     * Elements per dimension, slowest first.
     */
    int64_t count[PANTA_MAX_DIMS];
    /**
     * Bytes from one element to the next along each dimension. They may be
     * negative; of memory that is written to, no two elements may overlap.
     */
    int64_t strides_bytes[PANTA_MAX_DIMS];
} panta_buffer;

/**
 * How the blocks of a variable lie to each other.
 */
typedef int32_t panta_kind;

/**
 * What a variable is. panta_global and its siblings below fill one in; the
 * pointers are used during panta_define only.
 */
typedef struct {
    /**
     * sizeof(panta_definition)
     */
    size_t size;
    /**
     * The variable's name, unique in its stream.
     */
    const char *name;
    /**
     * What its elements are.
     */
    panta_dtype dtype;
    /**
     * How its blocks lie to each other.
     */
    panta_kind kind;
    /**
     * The number of dimensions; 0 for values.
     */
    int32_t dimensions;
    /**
     * For joined arrays, the dimension along which blocks join, from 0.
     */
    int32_t joined_dimension;
    /**
     * Elements per dimension, slowest first; counts for global arrays, and for
     * joined arrays in all but the joined dimension.
     */
    int64_t shape[PANTA_MAX_DIMS];
    /**
     * Names of the dimensions, one for each; or NULL.
     */
    const char *const *dimension_names;
    /**
     * The unit of the elements, for people; or NULL.
     */
    const char *unit;
    /**
     * Names of the variables that hold the coordinates; or NULL.
     */
    const char *const *coordinates;
    /**
     * How many coordinates.
     */
    size_t coordinates_count;
    /**
     * One element: what readers get for cells that no block covers. With NULL
     * they get PANTA_ERROR_NOT_COVERED.
     */
    const void *fill;
    /**
     * Elements per dimension of the chunks by which staging servers index; or
     * NULL, and the engine chooses.
     */
    const int64_t *chunk;
    /**
     * Above 0: numbers may be rounded by this much, in the unit of the elements,
     * so that `compress` gains more. Floating-point and complex arrays only.
     */
    double absolute_accuracy;
    /**
     * Above 0: numbers may be rounded by this part of each, as 1e-4. One of
     * the two at most; with 0 in both every bit is kept.
     */
    double relative_accuracy;
} panta_definition;

/**
 * Where a reader begins.
 */
typedef int32_t panta_start;

/**
 * How to open a stream for reading; see panta_default_reader_options().
 */
typedef struct {
    /**
     * sizeof(panta_reader_options)
     */
    size_t size;
    /**
     * Where to begin.
     */
    panta_start start;
    /**
     * 0.
     */
    int32_t reserved;
    /**
     * With PANTA_START_AT and PANTA_START_AFTER, the step.
     */
    int64_t start_step;
    /**
     * With PANTA_START_AT_TIME, the simulation time.
     */
    double start_time;
    /**
     * With PANTA_START_CURSOR, the cursor's name.
     */
    const char *cursor;
    /**
     * Ends the waits of the opening, and later those of the reader, as
     * panta_interrupt does; NULL for none.
     */
    panta_interrupter *interrupter;
    /**
     * 0: progress is made as the configuration says, on threads of the library
     * unless it says `progress=manual`. More than 0: it is made by hand, no
     * thread is started, and this is how long the program may stay away between
     * two calls, in milliseconds, before its peers hold it dead; see
     * panta_progress.
     */
    int64_t silence_ms;
} panta_reader_options;

/**
 * The copies of payload that a handle has made so far.
 */
typedef struct {
    /**
     * sizeof(panta_copies), set by the caller.
     */
    size_t size;
    /**
     * Bytes copied.
     */
    uint64_t bytes;
    /**
     * Calls that copied at least one.
     */
    uint64_t calls;
} panta_copies;

/**
 * What was sent along with steps before it was asked for.
 */
typedef struct {
    /**
     * sizeof(panta_push_counts), set by the caller.
     */
    size_t size;
    /**
     * Pushes that were got as they came.
     */
    uint64_t used;
    /**
     * Bytes of them.
     */
    uint64_t used_bytes;
    /**
     * Pushes that nobody got.
     */
    uint64_t wasted;
    /**
     * Bytes of them.
     */
    uint64_t wasted_bytes;
} panta_push_counts;

/**
 * A number of any numeric type.
 */
typedef struct {
    /**
     * Which of the three is exact: PANTA_I64, PANTA_U64 or PANTA_F64.
     */
    panta_dtype dtype;
    /**
     * 0.
     */
    int32_t reserved;
    /**
     * As a signed integer; 0 if it is not one.
     */
    int64_t i64;
    /**
     * As an unsigned integer; 0 if it is not one.
     */
    uint64_t u64;
    /**
     * As a floating-point number, rounded if need be.
     */
    double f64;
} panta_number;

/**
 * What is known of values without reading them.
 */
typedef struct {
    /**
     * 1 if the rest counts; 0 where order has no meaning or nothing was put.
     */
    int32_t known;
    /**
     * 0.
     */
    int32_t reserved;
    /**
     * The smallest value.
     */
    panta_number min;
    /**
     * The largest value.
     */
    panta_number max;
    /**
     * Elements that are not a number; they take no part in the two.
     */
    uint64_t nans;
} panta_stats;

/**
 * A variable as it is in one step. The pointers are the step's own and live
 * as long as its handle.
 */
typedef struct {
    /**
     * sizeof(panta_variable_info), set by the caller.
     */
    size_t size;
    /**
     * Its name.
     */
    const char *name;
    /**
     * What its elements are.
     */
    panta_dtype dtype;
    /**
     * How its blocks lie to each other.
     */
    panta_kind kind;
    /**
     * The number of dimensions as readers see it: 1 for local values.
     */
    int32_t dimensions;
    /**
     * For joined arrays, the joined dimension; else -1.
     */
    int32_t joined_dimension;
    /**
     * Elements per dimension as readers see it, slowest first; zeros for local
     * arrays, whose blocks differ.
     */
    int64_t shape[PANTA_MAX_DIMS];
    /**
     * Names of the dimensions, one for each; NULL if they have none.
     */
    const char *const *dimension_names;
    /**
     * The unit; an empty text if none.
     */
    const char *unit;
    /**
     * Names of the variables that hold the coordinates.
     */
    const char *const *coordinates;
    /**
     * How many coordinates.
     */
    size_t coordinates_count;
    /**
     * One element; NULL if no fill value was defined. It need not be aligned.
     */
    const void *fill;
    /**
     * Elements per dimension of the chunks; NULL if none were defined.
     */
    const int64_t *chunk;
    /**
     * How many blocks were put; for values, how many values there are.
     */
    uint64_t blocks;
    /**
     * Over all blocks.
     */
    panta_stats stats;
    /**
     * By how much numbers were rounded at most; 0 if by no such bound.
     */
    double absolute_accuracy;
    /**
     * By which part of each they were rounded at most; 0 if by no such bound.
     */
    double relative_accuracy;
} panta_variable_info;

/**
 * A block that one rank put.
 */
typedef struct {
    /**
     * sizeof(panta_block_info), set by the caller.
     */
    size_t size;
    /**
     * The rank that put it.
     */
    int32_t rank;
    /**
     * Its place among that rank's puts of the step, over all variables.
     */
    int32_t order;
    /**
     * The number of dimensions; 0 for values.
     */
    int32_t dimensions;
    /**
     * 0.
     */
    int32_t reserved;
    /**
     * First cell per dimension; zeros for local arrays.
     */
    int64_t start[PANTA_MAX_DIMS];
    /**
     * Cells per dimension.
     */
    int64_t count[PANTA_MAX_DIMS];
    /**
     * Of its values.
     */
    panta_stats stats;
} panta_block_info;

/**
 * An attribute in force at a step. The pointers are the step's own and live
 * as long as its handle.
 */
typedef struct {
    /**
     * sizeof(panta_attribute), set by the caller.
     */
    size_t size;
    /**
     * The variable whose attribute it is; NULL for the stream's.
     */
    const char *variable;
    /**
     * Its name.
     */
    const char *name;
    /**
     * PANTA_I64, PANTA_U64, PANTA_F64 or PANTA_TEXT.
     */
    panta_dtype dtype;
    /**
     * 1 if it was set as an array; a single value is at index 0 of its array.
     */
    int32_t is_array;
    /**
     * How many values; that many are at one of the four pointers, by dtype;
     * the other three are NULL.
     */
    size_t count;
    /**
     * Signed integers.
     */
    const int64_t *i64s;
    /**
     * Unsigned integers.
     */
    const uint64_t *u64s;
    /**
     * Floating-point numbers.
     */
    const double *f64s;
    /**
     * Texts.
     */
    const char *const *texts;
} panta_attribute;

/**
 * Which part of a variable is wanted. panta_box and its siblings below fill
 * one in; NULL in place of a selection means everything.
 */
typedef struct {
    /**
     * sizeof(panta_selection)
     */
    size_t size;
    /**
     * The block it is taken of, positions relative to its first cell; or
     * PANTA_NO_BLOCK.
     */
    int64_t block;
    /**
     * The number of dimensions; 0: all cells, and the arrays do not count.
     */
    int32_t dimensions;
    /**
     * 0.
     */
    int32_t reserved;
    /**
     * First cell per dimension, slowest first.
     */
    int64_t start[PANTA_MAX_DIMS];
    /**
     * Cells taken per dimension, or PANTA_TO_END.
     */
    int64_t count[PANTA_MAX_DIMS];
    /**
     * Distance between them per dimension, at least 1.
     */
    int64_t stride[PANTA_MAX_DIMS];
} panta_selection;

/**
 * Done.
 */
#define PANTA_OK 0

/**
 * No error: the writer has closed the stream and every step was seen.
 */
#define PANTA_END_OF_STREAM 1

/**
 * No error: no step came within the time given; ask again.
 */
#define PANTA_NOT_READY 2

/**
 * A pointer that must not be NULL is NULL.
 */
#define PANTA_ERROR_NULL 10

/**
 * A struct's size is none this library knows.
 */
#define PANTA_ERROR_STRUCT_SIZE 11

/**
 * An argument makes no sense; the message says which.
 */
#define PANTA_ERROR_ARGUMENT 12

/**
 * The handle was closed.
 */
#define PANTA_ERROR_CLOSED_HANDLE 13

/**
 * The pointer is no handle, or a handle of another kind.
 */
#define PANTA_ERROR_INVALID_HANDLE 14

/**
 * The handle is in use by another thread at this moment.
 */
#define PANTA_ERROR_BUSY_HANDLE 15

/**
 * A defect of the library; the handle can only be closed.
 */
#define PANTA_ERROR_PANIC 16

/**
 * More handles are open than the library can number.
 */
#define PANTA_ERROR_TOO_MANY_HANDLES 17

/**
 * The name, URL or a parameter of the stream is wrong.
 */
#define PANTA_ERROR_CONFIG 20

/**
 * Nothing answers to that name.
 */
#define PANTA_ERROR_NOT_FOUND 21

/**
 * Another writer holds the stream.
 */
#define PANTA_ERROR_BUSY 22

/**
 * The communicator failed.
 */
#define PANTA_ERROR_COMMUNICATOR 23

/**
 * A definition contradicts itself.
 */
#define PANTA_ERROR_DEFINITION 30

/**
 * A definition contradicts an earlier one.
 */
#define PANTA_ERROR_REDEFINED 31

/**
 * There is no such variable; the message names the nearest.
 */
#define PANTA_ERROR_UNKNOWN_VARIABLE 32

/**
 * There is no such attribute.
 */
#define PANTA_ERROR_UNKNOWN_ATTRIBUTE 33

/**
 * A step has begun and not ended.
 */
#define PANTA_ERROR_STEP_OPEN 40

/**
 * No step has begun.
 */
#define PANTA_ERROR_NO_STEP 41

/**
 * The step asks for more bytes than the limit.
 */
#define PANTA_ERROR_STEP_TOO_LARGE 42

/**
 * The writer's ranks disagree about a variable.
 */
#define PANTA_ERROR_DISAGREEMENT 43

/**
 * The elements are of another type.
 */
#define PANTA_ERROR_DTYPE 44

/**
 * A block or buffer does not fit the variable or the selection.
 */
#define PANTA_ERROR_SHAPE 45

/**
 * It is not known whether the step was sealed.
 */
#define PANTA_ERROR_IN_DOUBT 46

/**
 * Blocks overlap, and `checked` forbids it.
 */
#define PANTA_ERROR_OVERLAP 47

/**
 * The writer died; panta_error_step() is the last step it sealed, or -1.
 */
#define PANTA_ERROR_WRITER_LOST 50

/**
 * The writer went back; steps after panta_error_step() are withdrawn. Go on calling.
 */
#define PANTA_ERROR_ROLLED_BACK 51

/**
 * The step is no longer held; panta_error_step() is the oldest that is, or -1.
 */
#define PANTA_ERROR_TRIMMED 52

/**
 * Steps and views that this reader keeps hold the whole limit.
 */
#define PANTA_ERROR_WOULD_DEADLOCK 53

/**
 * The selection does not fit the array.
 */
#define PANTA_ERROR_SELECTION 60

/**
 * There is no such block, or no such text.
 */
#define PANTA_ERROR_NO_SUCH_BLOCK 61

/**
 * Nobody put these cells, and the variable has no fill value.
 */
#define PANTA_ERROR_NOT_COVERED 62

/**
 * Bytes have changed since they were put.
 */
#define PANTA_ERROR_CHECKSUM 63

/**
 * The operating system refused something.
 */
#define PANTA_ERROR_IO 70

/**
 * A wait ended at its deadline; the message names who was awaited.
 */
#define PANTA_ERROR_DEADLINE 71

/**
 * panta_interrupt ended a wait.
 */
#define PANTA_ERROR_INTERRUPTED 72

/**
 * A rank of this group died.
 */
#define PANTA_ERROR_RANK_LOST 73

/**
 * Another rank of this group failed; the message carries its words.
 */
#define PANTA_ERROR_ON_RANK 74

/**
 * A writer, server or other peer is gone.
 */
#define PANTA_ERROR_PEER_LOST 75

/**
 * A peer said no.
 */
#define PANTA_ERROR_REFUSED 76

/**
 * Bytes are not what was written.
 */
#define PANTA_ERROR_CORRUPT 77

/**
 * What carries the stream cannot do this; the message says what to do instead.
 */
#define PANTA_ERROR_UNSUPPORTED 78

/**
 * A later writer has taken the stream over.
 */
#define PANTA_ERROR_FENCED 79

/**
 * int8_t
 */
#define PANTA_I8 1

/**
 * int16_t
 */
#define PANTA_I16 2

/**
 * int32_t
 */
#define PANTA_I32 3

/**
 * int64_t
 */
#define PANTA_I64 4

/**
 * uint8_t
 */
#define PANTA_U8 5

/**
 * uint16_t
 */
#define PANTA_U16 6

/**
 * uint32_t
 */
#define PANTA_U32 7

/**
 * uint64_t
 */
#define PANTA_U64 8

/**
 * float
 */
#define PANTA_F32 9

/**
 * double
 */
#define PANTA_F64 10

/**
 * float _Complex: real, imaginary
 */
#define PANTA_COMPLEX64 11

/**
 * double _Complex: real, imaginary
 */
#define PANTA_COMPLEX128 12

/**
 * bool: one byte, 0 or 1
 */
#define PANTA_BOOL 13

/**
 * UTF-8 text; as a global or local value only
 */
#define PANTA_TEXT 14

/**
 * Blocks are boxes of one array of a known shape.
 */
#define PANTA_GLOBAL_ARRAY 1

/**
 * Blocks stand for themselves and are read one by one.
 */
#define PANTA_LOCAL_ARRAY 2

/**
 * Blocks are joined along one dimension, in the order (rank, put).
 */
#define PANTA_JOINED_ARRAY 3

/**
 * One value for the whole stream; the highest (rank, put) wins.
 */
#define PANTA_GLOBAL_VALUE 4

/**
 * One value for each put; read as a 1-D array in the order (rank, put).
 */
#define PANTA_LOCAL_VALUE 5

/**
 * Memory of the host.
 */
#define PANTA_HOST 0

/**
 * Memory of a CUDA device.
 */
#define PANTA_CUDA 1

/**
 * Memory of a ROCm device.
 */
#define PANTA_ROCM 2

/**
 * Memory of a SYCL or Level Zero device.
 */
#define PANTA_LEVEL_ZERO 3

/**
 * Starts anew; what was there is replaced.
 */
#define PANTA_RESUME_FRESH 0

/**
 * Goes on after the last sealed step.
 */
#define PANTA_RESUME_LAST 1

/**
 * Goes on after the step `resume_step`; later steps are withdrawn.
 */
#define PANTA_RESUME_AFTER 2

/**
 * At the oldest step held.
 */
#define PANTA_START_OLDEST 0

/**
 * At the newest sealed step.
 */
#define PANTA_START_LATEST 1

/**
 * At the step `start_step`.
 */
#define PANTA_START_AT 2

/**
 * At the first step after `start_step`.
 */
#define PANTA_START_AFTER 3

/**
 * At the first step at or after the simulation time `start_time`.
 */
#define PANTA_START_AT_TIME 4

/**
 * After the position committed under `cursor`; at the oldest if none was.
 */
#define PANTA_START_CURSOR 5

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that runs, such as "0.1.0". The library's own,
 * for good; never NULL. May be called from a signal handler.
 */
const char *panta_version(void);

/**
 * Fails if this library is older than the header of `wanted`, a
 * PANTA_VERSION_NUMBER; see panta_check_version().
 */
panta_status panta_require_version(uint32_t wanted);

/**
 * The same as one number, counted as PANTA_VERSION_NUMBER is: differs from it
 * when header and library do not belong together.
 */
uint32_t panta_version_number(void);

/**
 * Sets this thread's error, for functions around this library that are written
 * in C, as those of panta_mpi.h; returns `status`.
 */
panta_status panta_fail(panta_status status, const char *message);

/**
 * Adds words to this thread's last error, for functions around this library
 * whose callers know its arguments by other names; keeps the rest of it.
 */
void panta_explain(const char *words);

/**
 * A status as its name is written here, such as "PANTA_ERROR_SHAPE"; for good,
 * and never NULL.
 */
const char *panta_status_name(panta_status status);

/**
 * The status of the last call on this thread that gave other than PANTA_OK or
 * PANTA_END_OF_STREAM; PANTA_OK if none did.
 */
panta_status panta_error_status(void);

/**
 * What went wrong in that call, where, and what to try. Never NULL; lives
 * until the next such call on this thread.
 */
const char *panta_error_message(void);

/**
 * The stream it happened in; an empty text if in none. Lives as the message does.
 */
const char *panta_error_stream(void);

/**
 * The variable it happened in; NULL if in none. Lives as the message does.
 */
const char *panta_error_variable(void);

/**
 * The step it happened in, or which the status speaks of; -1 if none.
 */
int64_t panta_error_step(void);

/**
 * The rank it happened on; -1 if on none in particular.
 */
int32_t panta_error_rank(void);

/**
 * Makes an interrupter: panta_interrupt takes it as it takes a writer or
 * reader, and ends the waits of what was opened with it in its options, of the
 * opening too. Several openings may have the same one.
 */
panta_status panta_interrupter_open(panta_interrupter **interrupter);

/**
 * Lets go of an interrupter. What was opened with it goes on, and is interrupted
 * by its own handle.
 */
panta_status panta_interrupter_close(panta_interrupter *interrupter);

/**
 * Ends the waits of a writer or reader, or of what was opened with an
 * interrupter, within 50 ms, with PANTA_ERROR_INTERRUPTED: the one under way,
 * and those to come, until panta_clear_interrupt. May be called from a signal
 * handler and from any thread; sets no error message. What is opening has no
 * handle of its own yet: give it an interrupter.
 */
panta_status panta_interrupt(const void *handle);

/**
 * Takes the interrupt back, so that later waits run normally. May be called
 * where panta_interrupt may.
 */
panta_status panta_clear_interrupt(const void *handle);

/**
 * One rank alone. NULL in place of a communicator means the same.
 */
panta_status panta_comm_solo(panta_comm **comm);

/**
 * Ranks that are processes of one host, as their environment says: PANTA_RANK,
 * PANTA_SIZE, and PANTA_RENDEZVOUS, a directory that the run has to itself.
 */
panta_status panta_comm_procs(panta_comm **comm);

/**
 * Ranks that are threads of this process: fills `comms` with `size_of_group`
 * communicators, one for each thread, in rank order.
 */
panta_status panta_comm_threads(int32_t size_of_group, panta_comm **comms);

/**
 * Ranks that the caller's functions reach. The table is copied; its `release`
 * is called by panta_comm_close, and not if this call fails.
 */
panta_status panta_comm_from_vtable(const panta_comm_vtable *vtable,
                                    panta_comm **comm);

/**
 * Lets go of a communicator. Streams that were opened with it go on.
 */
panta_status panta_comm_close(panta_comm *comm);

/**
 * Opens a stream for writing; collective over `comm` (NULL: this process
 * alone), which may be closed afterwards. `name` is a URL such as
 * "file:run42.panta", or a name that PANTA_URL_<NAME>, then panta.toml, turns
 * into one, else "file:<name>.panta". `options` may be NULL.
 */
panta_status panta_writer_open(const char *name,
                               panta_comm *comm,
                               const panta_writer_options *options,
                               panta_writer **writer);

/**
 * Closes the stream; collective. Readers see its end after the last step; a
 * step that is open is given up. The handle is closed also where an error
 * comes back, unless that is PANTA_ERROR_BUSY_HANDLE.
 */
panta_status panta_writer_close(panta_writer *writer);

/**
 * How long each wait of this writer may take from now on, in milliseconds.
 */
panta_status panta_writer_set_deadline(panta_writer *writer,
                                       int64_t deadline_ms);

/**
 * Begins a step; collective: every rank calls it, also with nothing to put.
 * Waits or sheds here, by the stream's policy and by bytes: as many as the
 * last step had are reserved. `time` is simulation time, rank 0's counts;
 * PANTA_NO_TIME if there is none. Gives the step's number; NULL if not wanted.
 */
panta_status panta_begin_step(panta_writer *writer,
                              double time,
                              int64_t *number);

/**
 * The same, for a step in which this rank will put up to `bytes`.
 */
panta_status panta_begin_step_of(panta_writer *writer,
                                 double time,
                                 uint64_t bytes,
                                 int64_t *number);

/**
 * Identity and times of the step that is open; its counts of variables and
 * attributes are 0, since readers alone know them.
 */
panta_status panta_describe_open_step(panta_writer *writer,
                                      panta_step_info *info);

/**
 * Gives 1 if the stream's policy will discard the step that is open, so that
 * computing what would be put can be spared; else 0.
 */
panta_status panta_is_discarded(panta_writer *writer, int32_t *discarded);

/**
 * Ends the step; collective, with the same outcome on every rank. When it
 * returns, what was put is the caller's again, and the step is sealed, or
 * given up on every rank. `sealed` may be NULL.
 */
panta_status panta_end_step(panta_writer *writer, panta_sealed *sealed);

/**
 * Gives the step up, on every rank; collective with the others'
 * panta_end_step, which then fail.
 */
panta_status panta_abort_step(panta_writer *writer);

/**
 * What carries the stream, and why.
 */
panta_status panta_writer_engine(panta_writer *writer, panta_engine_info *info);

/**
 * This rank and the number of ranks of the writer's group. Either may be NULL.
 */
panta_status panta_writer_group(panta_writer *writer,
                                int32_t *rank,
                                int32_t *size_of_group);

/**
 * Puts one block that begins at `start` (NULL: at zeros) and has the buffer's
 * counts. Captured by end: the memory stays the caller's, and is left in place
 * and unchanged until panta_end_step, panta_abort_step or panta_writer_close
 * returns. Of a local array `start` is NULL; along a joined dimension it is 0.
 * If this fails, the step fails on every rank.
 */
panta_status panta_put(panta_writer *writer,
                       panta_variable variable,
                       const int64_t *start,
                       const panta_buffer *buffer);

/**
 * Puts one block as panta_put does, and copies it during this call: the memory
 * is the caller's again when it returns.
 */
panta_status panta_put_copied(panta_writer *writer,
                              panta_variable variable,
                              const int64_t *start,
                              const panta_buffer *buffer);

/**
 * Makes the step that is open fail on every rank when it ends, with these
 * words, as a put that fails does; for functions around this library that
 * refuse what they were to put.
 */
panta_status panta_fail_step(panta_writer *writer, const char *message);

/**
 * Puts one block by lending its memory: `release(context, buffer.data)` is
 * called once, when the library is done with it, at the step's end at the
 * earliest, on the thread that ends the step or closes the writer. If this
 * fails, the memory stays the caller's and `release` is not called. `release`
 * returns: an exception of C++ that leaves it, or a longjmp, ends the program.
 */
panta_status panta_put_owned(panta_writer *writer,
                             panta_variable variable,
                             const int64_t *start,
                             const panta_buffer *buffer,
                             void (*release)(void *context, void *data),
                             void *context);

/**
 * Puts a value of a global or local value, taken at once.
 */
panta_status panta_put_value(panta_writer *writer,
                             panta_variable variable,
                             panta_dtype value_dtype,
                             const void *value);

/**
 * Puts a text of a global or local value, taken at once.
 */
panta_status panta_put_text(panta_writer *writer,
                            panta_variable variable,
                            const char *text);

/**
 * Lends memory of the transport for one block, to compute into, without any
 * copy: row-major, aligned to 64 bytes, holding zeros or the values of an
 * earlier step, so that every element is to be written; the caller's until
 * panta_end_step, panta_abort_step or panta_writer_close is called.
 */
panta_status panta_span(panta_writer *writer,
                        panta_variable variable,
                        panta_dtype span_dtype,
                        const int64_t *start,
                        const int64_t *count,
                        void **memory);

/**
 * Defines a variable, from the next step on; local to this rank. Defining it
 * again alike gives the same variable; only its shape, chunk, unit, fill,
 * coordinates and accuracy may differ.
 */
panta_status panta_define(panta_writer *writer,
                          const panta_definition *definition,
                          panta_variable *variable);

/**
 * Promises that what is defined stays as it is: from now on the first
 * definition of a variable, another shape, or another attribute is
 * PANTA_ERROR_REDEFINED; local to this rank.
 */
panta_status panta_freeze_definitions(panta_writer *writer);

/**
 * Gives a global array another shape, of as many dimensions, from the next
 * step on. Every rank that defines the variable does the same.
 */
panta_status panta_set_shape(panta_writer *writer,
                             panta_variable variable,
                             const int64_t *shape);

/**
 * Sets an attribute of a variable, or with PANTA_STREAM of the stream, from
 * the next step on: a signed integer.
 */
panta_status panta_set_attribute_i64(panta_writer *writer,
                                     panta_variable variable,
                                     const char *name,
                                     int64_t value);

/**
 * The same: an unsigned integer.
 */
panta_status panta_set_attribute_u64(panta_writer *writer,
                                     panta_variable variable,
                                     const char *name,
                                     uint64_t value);

/**
 * The same: a floating-point number.
 */
panta_status panta_set_attribute_f64(panta_writer *writer,
                                     panta_variable variable,
                                     const char *name,
                                     double value);

/**
 * The same: a text.
 */
panta_status panta_set_attribute_text(panta_writer *writer,
                                      panta_variable variable,
                                      const char *name,
                                      const char *value);

/**
 * The same: an array of signed integers.
 */
panta_status panta_set_attribute_i64s(panta_writer *writer,
                                      panta_variable variable,
                                      const char *name,
                                      const int64_t *values,
                                      size_t count);

/**
 * The same: an array of unsigned integers.
 */
panta_status panta_set_attribute_u64s(panta_writer *writer,
                                      panta_variable variable,
                                      const char *name,
                                      const uint64_t *values,
                                      size_t count);

/**
 * The same: an array of floating-point numbers.
 */
panta_status panta_set_attribute_f64s(panta_writer *writer,
                                      panta_variable variable,
                                      const char *name,
                                      const double *values,
                                      size_t count);

/**
 * The same: an array of texts.
 */
panta_status panta_set_attribute_texts(panta_writer *writer,
                                       panta_variable variable,
                                       const char *name,
                                       const char *const *values,
                                       size_t count);

/**
 * Opens a stream for reading, by name or URL as panta_writer_open does;
 * collective over `comm` (NULL: this process alone), which may be closed
 * afterwards. Waits for the writer up to the configured deadline. `options`
 * may be NULL: from the oldest step on.
 */
panta_status panta_reader_open(const char *name,
                               panta_comm *comm,
                               const panta_reader_options *options,
                               panta_reader **reader);

/**
 * Leaves the stream. The writer goes on without this reader. The step it is at
 * is let go; detached ones and views stay.
 */
panta_status panta_reader_close(panta_reader *reader);

/**
 * The next step; collective, so that every rank sees the same ones. Waits
 * `deadline_ms` at most (PANTA_CONFIGURED: as the stream is configured; 0: polls).
 * The step before is let go, unless it was detached.
 *
 * PANTA_END_OF_STREAM: the writer has closed and every step was seen.
 * PANTA_NOT_READY, PANTA_ERROR_ROLLED_BACK: go on calling. In both cases, and
 * after an error, `*step` is NULL.
 */
panta_status panta_next_step(panta_reader *reader,
                             int64_t deadline_ms,
                             panta_step **step);

/**
 * Gives a descriptor that becomes readable when panta_next_step should be
 * called, for programs with a poll or epoll of their own; on rank 0, which is
 * who hears of steps. It may be readable for nothing: call panta_next_step with
 * a deadline of 0 until that gives PANTA_NOT_READY, and only then wait for it.
 * It is the library's: not to be read from or closed; ends with the reader.
 */
panta_status panta_wait_fd(panta_reader *reader, int32_t *descriptor);

/**
 * Remembers under `cursor` that the group is done with everything up to
 * `step`; collective. PANTA_START_CURSOR goes on after it.
 */
panta_status panta_commit(panta_reader *reader,
                          panta_step *step,
                          const char *cursor);

/**
 * Says that what this rank gets of a step it will get of every step: what it got
 * of the last step that it let go of, else what it gets of the next. Over
 * `stream:` the writer then sends that along with each step, so that panta_get
 * has nothing to wait for. Without this it is found out after two steps. To get
 * something else later is no error: it is asked for.
 */
panta_status panta_freeze_selections(panta_reader *reader);

/**
 * What carries the stream, and why.
 */
panta_status panta_reader_engine(panta_reader *reader, panta_engine_info *info);

/**
 * This rank and the number of ranks of the reader's group. Either may be NULL.
 */
panta_status panta_reader_group(panta_reader *reader,
                                int32_t *rank,
                                int32_t *size_of_group);

/**
 * Does what is there to do for a writer or reader that was opened with progress
 * by hand (silence_ms of its options, or `progress=manual` in its URL): readers
 * that come, go and ask for bytes are answered, and peers are shown that the
 * program is alive. All other calls do so, too; this is for programs that make
 * none for long, and is to be called at least as often as they declared. Never
 * waits; does nothing where threads do it. PANTA_ERROR_FENCED if the program
 * stayed away for longer than it had declared: its peers hold it dead, and the
 * handle is of no more use.
 */
panta_status panta_progress(const void *handle);

/**
 * Gives a descriptor that is readable when panta_progress has something to do
 * for the writer, for programs with a poll or epoll of their own; where threads
 * do it, or nothing ever is to be done, it never is. It is the library's: not to
 * be read from or closed; ends with the writer. For a reader panta_wait_fd gives
 * one.
 */
panta_status panta_writer_wait_fd(panta_writer *writer,
                                  int32_t *descriptor);

/**
 * The copies of payload that this writer has made so far.
 */
panta_status panta_writer_copies(panta_writer *writer, panta_copies *copies);

/**
 * The copies of payload that this reader and its steps have made so far.
 */
panta_status panta_reader_copies(panta_reader *reader, panta_copies *copies);

/**
 * Bytes of metadata that this rank has sent so far: up and down the control
 * tree, and on rank 0 what the sealed steps tell readers.
 */
panta_status panta_writer_metadata_bytes(panta_writer *writer, uint64_t *bytes);

/**
 * Bytes of metadata so far: announcements of steps that came to this rank, and
 * what it sent up and down the control tree.
 */
panta_status panta_reader_metadata_bytes(panta_reader *reader, uint64_t *bytes);

/**
 * Bytes of blocks that this rank took from where they are stored, as they lie
 * there, compressed or not; 0 where the engine does not say.
 */
panta_status panta_reader_fetched_bytes(panta_reader *reader, uint64_t *bytes);

/**
 * What was sent along with steps to this rank, as panta_freeze_selections says,
 * and whether it was of use.
 */
panta_status panta_reader_push_counts(panta_reader *reader,
                                      panta_push_counts *counts);

/**
 * Keeps the step beyond the reader's next one, and beyond the reader; counted
 * against the stream's limit until panta_step_close.
 */
panta_status panta_step_detach(panta_step *step);

/**
 * Lets go of a step, and of everything that points into it but views. Needed
 * for detached steps only; the others end with the reader's next one.
 */
panta_status panta_step_close(panta_step *step);

/**
 * The step's identity and times.
 */
panta_status panta_step_describe(panta_step *step, panta_step_info *info);

/**
 * The variable called `name` as it is in this step.
 */
panta_status panta_find_variable(panta_step *step,
                                 const char *name,
                                 panta_variable_info *info);

/**
 * The variable at place `index`, below panta_step_info.variables.
 */
panta_status panta_variable_at(panta_step *step,
                               uint64_t index,
                               panta_variable_info *info);

/**
 * The block `block` of a variable, below panta_variable_info.blocks. Blocks
 * are in the order (rank, put).
 */
panta_status panta_block_at(panta_step *step,
                            const char *variable,
                            int64_t block,
                            panta_block_info *info);

/**
 * The attribute called `name` of a variable, or with NULL of the stream, as of
 * this step; also of variables that were not put in it.
 */
panta_status panta_find_attribute(panta_step *step,
                                  const char *variable,
                                  const char *name,
                                  panta_attribute *attribute);

/**
 * The attribute at place `index`, below panta_step_info.attributes.
 */
panta_status panta_attribute_at(panta_step *step,
                                uint64_t index,
                                panta_attribute *attribute);

/**
 * A text of a global value (`index` 0) or of the `index`-th put of a local
 * value, below panta_variable_info.blocks. It is the step's own and lives as
 * long as its handle. `length_bytes` may be NULL; a text from another language
 * may hold zero bytes, which do not count as its end there.
 */
panta_status panta_get_text(panta_step *step,
                            const char *variable,
                            int64_t index,
                            const char **text,
                            size_t *length_bytes);

/**
 * Reads a selection (NULL: everything) into a buffer of the selection's counts
 * and any strides. After an error what it holds is undefined. Several threads
 * may read from a step at once.
 */
panta_status panta_get(panta_step *step,
                       const char *variable,
                       const panta_selection *selection,
                       const panta_buffer *buffer);

/**
 * Reads one value: of a global value, or the only element of anything.
 */
panta_status panta_get_value(panta_step *step,
                             const char *variable,
                             panta_dtype value_dtype,
                             void *value);

/**
 * The counts of what a selection (NULL: everything) gives, so that memory can
 * be made for it: `dimensions` (may be NULL) and as many entries of `count`,
 * which has room for PANTA_MAX_DIMS.
 */
panta_status panta_selected(panta_step *step,
                            const char *variable,
                            const panta_selection *selection,
                            int32_t *dimensions,
                            int64_t *count);

/**
 * Begins several reads that are done together: one round trip where the
 * engine has any. It keeps the step as long as it is open.
 */
panta_status panta_batch_open(panta_step *step, panta_batch **batch);

/**
 * Adds a read; as panta_get, but that the memory is written by
 * panta_batch_finish, until which it is left in place.
 */
panta_status panta_batch_get(panta_batch *batch,
                             const char *variable,
                             const panta_selection *selection,
                             const panta_buffer *buffer);

/**
 * Does the reads and closes the batch. The error is that of the first read
 * that fails; what the buffers hold is then undefined.
 */
panta_status panta_batch_finish(panta_batch *batch);

/**
 * Closes a batch without doing its reads.
 */
panta_status panta_batch_close(panta_batch *batch);

/**
 * Gives a block in place, without a copy: fills `buffer` in, whose memory is
 * not to be written to and stays until panta_view_close, beyond step and
 * reader; it counts against the stream's limit. PANTA_ERROR_UNSUPPORTED where
 * the engine has no memory to share: then panta_get the block.
 */
panta_status panta_view_open(panta_step *step,
                             const char *variable,
                             panta_dtype view_dtype,
                             int64_t block,
                             panta_buffer *buffer,
                             panta_view **view);

/**
 * Gives the memory of a view back.
 */
panta_status panta_view_close(panta_view *view);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PANTA_H */

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
