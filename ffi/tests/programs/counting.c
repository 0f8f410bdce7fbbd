/* Counts how often memory is taken, by whom ever: the library's calls come here too, since
 * a program's own malloc is everybody's. */
#include <stddef.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static int taken;

/* How often until now. */
int memory_taken(void);
int memory_taken(void)
{
    return taken;
}

void *malloc(size_t bytes)
{
    taken++;
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    taken++;
    return __libc_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    taken++;
    return __libc_realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    taken++;
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    taken++;
    *memory = __libc_memalign(alignment, bytes);
    return *memory ? 0 : 12;
}
