/* The enclave's one entry point: it starts the runtime, whatever the host asks for.
 *
 * Under Occlum the host chooses a program's arguments, and no measurement covers them. So this program takes
 * none. Its standard input is ignored, and of its environment one variable is kept: the launch specification.
 * All else is written down at build (entry.h, made by entry_program.py), and so measured.
 *
 * execve: Occlum has no fork, and looks at entry points in calls from the host only.
 */

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "entry.h"

static char *const arguments[] = {ARGUMENTS, 0};
static char *environment[] = {ENVIRONMENT, 0, 0};

int main(void)
{
    size_t last = sizeof environment / sizeof *environment - 2;
    for (char **each = environ; *each; each++)
        if (strncmp(*each, LAUNCH, sizeof LAUNCH - 1) == 0)
            environment[last] = *each;
    int nothing = open("/dev/null", O_RDONLY);
    if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0)
        return 126;
    if (nothing > STDERR_FILENO)
        close(nothing);
    execve(arguments[0], arguments, environment);
    return 127;
}
