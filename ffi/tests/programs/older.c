/* Compiled with a header of a later version than the library's. */
#include <panta.h>

#include <stdio.h>

int main(void)
{
    if (panta_check_version() != PANTA_ERROR_UNSUPPORTED ||
        !strstr(panta_error_message(), panta_version()) ||
        !strstr(panta_error_message(), "77.1.0") ||
        !strstr(panta_error_message(), "older than the `panta.h`")) {
        fprintf(stderr, "%s\n", panta_error_message());
        return 1;
    }
#ifdef __cplusplus
    return 0;
#else
    /* A header as old as the library, or older, is fine. */
    return panta_require_version(0) != PANTA_OK ||
           panta_require_version(panta_version_number()) != PANTA_OK;
#endif
}
