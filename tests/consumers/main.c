/* Fails unless the header it was compiled with and the library it runs with
 * are the same version. */
#include <panta.h>
#include <stdio.h>

int main(void)
{
    printf("panta %s\n", panta_version());
    return panta_version_number() == PANTA_VERSION_NUMBER ? 0 : 1;
}
