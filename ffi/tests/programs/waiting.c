/* Waiting for steps in a poll of the program's own, and ending waits of which there is
 * no handle yet: waiting URL. The URL is a name of nothing so far. */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

enum { STEPS = 4, LIMIT_MS = 60000 };

static const char *url;
static panta_interrupter *interrupter;

static void on_alarm(int number)
{
    (void)number;
    panta_interrupt(interrupter);
}

/* Nobody writes: the opening would wait until its deadline. */
static void an_opening_is_interrupted(void)
{
    panta_reader *in = NULL;
    panta_writer *out;
    panta_reader_options options = panta_default_reader_options();
    panta_writer_options writing = panta_default_writer_options();
    struct itimerval soon = {{0, 0}, {0, 20000}};
    CHECK(panta_interrupter_open(&interrupter));
    options.interrupter = interrupter;
    signal(SIGALRM, on_alarm);
    THAT(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    EXPECT(PANTA_ERROR_INTERRUPTED, panta_reader_open(url, NULL, &options, &in));
    THAT(in == NULL);
    /* Still set: it holds until it is taken back. */
    EXPECT(PANTA_ERROR_INTERRUPTED, panta_reader_open(url, NULL, &options, &in));
    CHECK(panta_clear_interrupt(interrupter));
    /* What is opened with it can be interrupted by either. */
    writing.interrupter = interrupter;
    CHECK(panta_writer_open("null:", NULL, &writing, &out));
    CHECK(panta_interrupt(out));
    EXPECT(PANTA_ERROR_INTERRUPTED, panta_reader_open(url, NULL, &options, &in));
    CHECK(panta_clear_interrupt(interrupter));
    CHECK(panta_writer_close(out));
    options.interrupter = (panta_interrupter *)(void *)out;
    EXPECT(PANTA_ERROR_INVALID_HANDLE, panta_reader_open(url, NULL, &options, &in));
    CHECK(panta_interrupter_close(interrupter));
    EXPECT(PANTA_ERROR_CLOSED_HANDLE, panta_interrupter_close(interrupter));
    EXPECT(PANTA_ERROR_CLOSED_HANDLE, panta_interrupt(interrupter));
    options.interrupter = interrupter;
    EXPECT(PANTA_ERROR_CLOSED_HANDLE, panta_reader_open(url, NULL, &options, &in));
    EXPECT(PANTA_ERROR_NULL, panta_interrupter_open(NULL));
}

static void *write_steps(void *nothing)
{
    panta_writer *out;
    panta_variable v, w;
    panta_definition definition = panta_global_value("v", PANTA_I32);
    CHECK(panta_writer_open(url, NULL, NULL, &out));
    CHECK(panta_define(out, &definition, &v));
    CHECK(panta_freeze_definitions(out));
    CHECK(panta_define(out, &definition, &w));
    THAT(v == w);
    definition.name = "w";
    EXPECT(PANTA_ERROR_REDEFINED, panta_define(out, &definition, &w));
    THAT(strstr(panta_error_message(), "frozen"));
    EXPECT(PANTA_ERROR_REDEFINED, panta_set_attribute_i64(out, v, "a", 1));
    for (int32_t step = 0; step < STEPS; step++) {
        CHECK(panta_begin_step(out, PANTA_NO_TIME, NULL));
        CHECK(panta_put_value(out, v, PANTA_I32, &step));
        CHECK(panta_end_step(out, NULL));
    }
    CHECK(panta_writer_close(out));
    return nothing;
}

/* Takes what is there, as the page of panta_wait_fd says. */
static int take_steps(panta_reader *in, int32_t *steps)
{
    panta_step *step;
    panta_status status;
    while ((status = panta_next_step(in, 0, &step)) == PANTA_OK) {
        int32_t value = -1;
        CHECK(panta_get_value(step, "v", PANTA_I32, &value));
        THAT(value == *steps);
        ++*steps;
    }
    if (status == PANTA_END_OF_STREAM)
        return 0;
    EXPECT(PANTA_NOT_READY, status);
    return 1;
}

static void steps_are_waited_for_in_a_poll(void)
{
    pthread_t writer;
    panta_reader *in;
    int32_t descriptor = -1, again = -1, steps = 0;
    struct pollfd waiting;
    THAT(pthread_create(&writer, NULL, write_steps, NULL) == 0);
    CHECK(panta_reader_open(url, NULL, NULL, &in));
    EXPECT(PANTA_ERROR_NULL, panta_wait_fd(in, NULL));
    CHECK(panta_wait_fd(in, &descriptor));
    CHECK(panta_wait_fd(in, &again));
    THAT(descriptor >= 0 && descriptor == again);
    do {
        waiting.fd = descriptor;
        waiting.events = POLLIN;
        THAT(poll(&waiting, 1, LIMIT_MS) == 1);
        THAT(waiting.revents & POLLIN);
    } while (take_steps(in, &steps));
    THAT(steps == STEPS);
    /* It stays readable: there is the end of the stream to hear of. */
    THAT(poll(&waiting, 1, LIMIT_MS) == 1);
    CHECK(panta_reader_close(in));
    EXPECT(PANTA_ERROR_CLOSED_HANDLE, panta_wait_fd(in, &descriptor));
    THAT(pthread_join(writer, NULL) == 0);
}

/* No thread is started, and what is to be done is done in calls. */
static void progress_is_made_by_hand(void)
{
    panta_writer *out;
    panta_reader *in;
    panta_step *step;
    panta_variable v;
    panta_definition definition = panta_global_value("v", PANTA_I32);
    panta_writer_options writing = panta_default_writer_options();
    panta_reader_options reading = panta_default_reader_options();
    int32_t descriptor = -1, again = -1, value = 7;
    struct pollfd waiting;
    writing.silence_ms = reading.silence_ms = -1;
    EXPECT(PANTA_ERROR_ARGUMENT, panta_writer_open("null:", NULL, &writing, &out));
    THAT(strstr(panta_error_message(), "silence_ms"));
    EXPECT(PANTA_ERROR_ARGUMENT, panta_reader_open(url, NULL, &reading, &in));
    writing.silence_ms = reading.silence_ms = 600000;
    CHECK(panta_writer_open("file:by_hand.panta", NULL, &writing, &out));
    CHECK(panta_define(out, &definition, &v));
    EXPECT(PANTA_ERROR_NULL, panta_writer_wait_fd(out, NULL));
    CHECK(panta_writer_wait_fd(out, &descriptor));
    CHECK(panta_writer_wait_fd(out, &again));
    THAT(descriptor >= 0 && descriptor == again);
    waiting.fd = descriptor;
    waiting.events = POLLIN;
    THAT(poll(&waiting, 1, 0) == 0);
    CHECK(panta_progress(out));
    CHECK(panta_begin_step(out, PANTA_NO_TIME, NULL));
    CHECK(panta_put_value(out, v, PANTA_I32, &value));
    CHECK(panta_progress(out));
    CHECK(panta_end_step(out, NULL));
    CHECK(panta_writer_close(out));
    EXPECT(PANTA_ERROR_CLOSED_HANDLE, panta_progress(out));
    CHECK(panta_reader_open("file:by_hand.panta", NULL, &reading, &in));
    CHECK(panta_progress(in));
    CHECK(panta_next_step(in, PANTA_CONFIGURED, &step));
    EXPECT(PANTA_ERROR_INVALID_HANDLE, panta_progress(step));
    CHECK(panta_reader_close(in));
    EXPECT(PANTA_ERROR_NULL, panta_progress(NULL));
    /* Nobody could keep to that. */
    writing.silence_ms = 1;
    EXPECT(PANTA_ERROR_CONFIG, panta_writer_open("null:", NULL, &writing, &out));
    THAT(strstr(panta_error_message(), "at least"));
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    url = argv[1];
    progress_is_made_by_hand();
    an_opening_is_interrupted();
    steps_are_waited_for_in_a_poll();
    return 0;
}
