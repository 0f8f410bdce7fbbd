/* The version of this header. */
#define PANTA_VERSION_MAJOR @MAJOR@
#define PANTA_VERSION_MINOR @MINOR@
#define PANTA_VERSION_PATCH @PATCH@

/* As one number that grows with it: major * 1000000 + minor * 1000 + patch. */
#define PANTA_VERSION_NUMBER                                                   \
    (UINT32_C(1000000) * PANTA_VERSION_MAJOR +                                 \
     UINT32_C(1000) * PANTA_VERSION_MINOR + PANTA_VERSION_PATCH)

/* As panta_begin_step's time: there is none. */
#define PANTA_NO_TIME ((double)NAN)
