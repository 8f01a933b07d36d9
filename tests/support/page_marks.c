/* What a program that page_trace.c watches calls; in C, so that nothing of Python's differs from run to run. */
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <valgrind/valgrind.h>

enum { INSTRUMENT = VG_USERREQ_TOOL_BASE('P', 'T'), BEGIN, END };
enum { FIELDS = 5 };

static const char *inputs;
static char *memory;
static uint64_t *results;
static long size;
static int phases, number, phase;

void instrument(void) { VALGRIND_DO_CLIENT_REQUEST_STMT(INSTRUMENT, 0, 0, 0, 0, 0); }

/* One process after the other, each a copy of this one as it is now: 1 in the copies, and 0 here in the end.
   Each finds another of the `count` inputs in `memory`, of `bytes` each; its results go where it has room. */
int copies(int count, void *into, const void *from, long bytes, uint64_t *room, int parts)
{
    memory = into, inputs = from, size = bytes, results = room, phases = parts, phase = 0;
    for (number = 0; number < count; number++) {
        pid_t child = fork();
        if (!child) {
            memcpy(memory, inputs + size * number, size);
            return 1;
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child || status) return -1;
    }
    return 0;
}

void begin(void) { VALGRIND_DO_CLIENT_REQUEST_STMT(BEGIN, 0, 0, 0, 0, 0); }

/* The end of a phase; of a copy's last, its end. */
void end(void)
{
    VALGRIND_DO_CLIENT_REQUEST_STMT(END, results + (number * phases + phase) * FIELDS, 0, 0, 0, 0);
    if (++phase == phases) _exit(0);
}
