/* panta.h: the C interface of Panta, a library that moves the arrays of a
 * running simulation, step by step, to the programs that want them.
 *
 * What is here today: the version of the library, so that a program can check
 * that the header it was compiled with and the library it runs with belong
 * together. Writing and reading streams from C is not here yet; from Rust it
 * is, in the crate `panta`.
 *
 * Rules that hold for everything in this header:
 *   - only names that begin with panta_ or PANTA_ are defined;
 *   - the library links no MPI, prints nothing, never exits, installs no
 *     signal handler and starts no thread you did not cause;
 *   - strings are UTF-8 and end in NUL; each function says who owns what it
 *     returns.
 *
 * C99 and C++17.  Link with -lpanta.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef PANTA_H
#define PANTA_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header. */
#define PANTA_VERSION_MAJOR 0
#define PANTA_VERSION_MINOR 1
#define PANTA_VERSION_PATCH 0

/* The version as one number that grows with it: major * 1000000 +
 * minor * 1000 + patch. */
#define PANTA_VERSION_NUMBER                                                   \
    (UINT32_C(1000000) * PANTA_VERSION_MAJOR +                                 \
     UINT32_C(1000) * PANTA_VERSION_MINOR + PANTA_VERSION_PATCH)

/* The version of the library that runs, such as "0.1.0". The string is the
 * library's own and lives as long as the library is loaded. Never NULL, never
 * fails, may be called from any thread and from a signal handler. */
const char *panta_version(void);

/* The version of the library that runs, counted as PANTA_VERSION_NUMBER is.
 * Differs from the macro when header and library do not belong together. */
uint32_t panta_version_number(void);

#ifdef __cplusplus
}
#endif

#endif /* PANTA_H */
