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
