/* What the test programs share: CHECK ends the program where a call did not
 * give what it should, saying where and what the library says. */
#ifndef PANTA_TEST_CHECK_H
#define PANTA_TEST_CHECK_H

#include <panta.h>

#include <stdio.h>
#include <stdlib.h>

#define EXPECT(status, call)                                                   \
    do {                                                                       \
        panta_status got_ = (call);                                            \
        if (got_ != (status)) {                                                \
            fprintf(stderr, "%s:%d: %s gave %s, not %s\n  %s\n", __FILE__,     \
                    __LINE__, #call, panta_status_name(got_), #status,         \
                    panta_error_message());                                    \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

#define CHECK(call) EXPECT(PANTA_OK, call)

/* The same of an error, whose message must have these words. */
#define REFUSED(status, words, call)                                           \
    do {                                                                       \
        EXPECT(status, call);                                                  \
        if (!strstr(panta_error_message(), words)) {                           \
            fprintf(stderr, "%s:%d: %s does not say '%s':\n  %s\n", __FILE__,  \
                    __LINE__, #call, words, panta_error_message());            \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

#define THAT(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__,       \
                    #condition);                                               \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

#endif
