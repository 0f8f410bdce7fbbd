/* A thousand streams leave nothing behind; two threads on one handle are told
 * so; a wait under way is interrupted from outside: many URL. */
#include "check.h"

#include <dirent.h>
#include <pthread.h>

static int entries(const char *directory)
{
    int count = 0;
    DIR *open = opendir(directory);
    THAT(open);
    while (readdir(open))
        count++;
    closedir(open);
    return count;
}

static void a_thousand_streams(void)
{
    int descriptors = 0, threads = 0;
    for (int i = 0; i < 1000; i++) {
        panta_writer *out;
        panta_variable v;
        double value = i;
        panta_definition definition = panta_global_value("v", PANTA_F64);
        CHECK(panta_writer_open("null:", NULL, NULL, &out));
        CHECK(panta_define(out, &definition, &v));
        CHECK(panta_begin_step(out, PANTA_NO_TIME, NULL));
        CHECK(panta_put_value(out, v, PANTA_F64, &value));
        if (i % 2) /* closing gives the step up */
            CHECK(panta_end_step(out, NULL));
        CHECK(panta_writer_close(out));
        if (i == 0) {
            descriptors = entries("/proc/self/fd");
            threads = entries("/proc/self/task");
        }
    }
    THAT(entries("/proc/self/fd") == descriptors);
    THAT(entries("/proc/self/task") == threads);
}

static void *wait_for_a_step(void *argument)
{
    panta_reader *in = (panta_reader *)argument;
    panta_step *step;
    panta_status status;
    do
        status = panta_next_step(in, 60000, &step);
    while (status == PANTA_ERROR_BUSY_HANDLE);
    THAT(status == PANTA_ERROR_INTERRUPTED && !step);
    return NULL;
}

int main(int argc, char **argv)
{
    panta_writer *out;
    panta_reader *in;
    panta_step *step;
    pthread_t waiting;
    panta_status status;
    if (argc < 2)
        return 2;
    a_thousand_streams();
    CHECK(panta_writer_open(argv[1], NULL, NULL, &out));
    CHECK(panta_reader_open(argv[1], NULL, NULL, &in));
    THAT(pthread_create(&waiting, NULL, wait_for_a_step, in) == 0);
    do
        status = panta_next_step(in, 0, &step);
    while (status == PANTA_NOT_READY);
    THAT(status == PANTA_ERROR_BUSY_HANDLE);
    EXPECT(PANTA_ERROR_BUSY_HANDLE, panta_reader_close(in));
    CHECK(panta_interrupt(in));
    THAT(pthread_join(waiting, NULL) == 0);
    CHECK(panta_reader_close(in));
    CHECK(panta_writer_close(out));
    return 0;
}
