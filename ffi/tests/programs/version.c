/* Compiled as C99 and as C++17 by ffi/tests/c.rs, with the expected version
 * as its argument. */
#include <panta.h>

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc != 2 || strcmp(panta_version(), argv[1]) != 0) {
        fprintf(stderr, "the library says version %s\n", panta_version());
        return 1;
    }
    if (panta_version_number() != PANTA_VERSION_NUMBER) {
        fprintf(stderr, "header and library differ in version number\n");
        return 1;
    }
    return 0;
}
