/* LD_PRELOAD: a host whose answers to an enclave's calls are nonsense.

   LIES names the kinds, LIES_SEED when they come, LIES_DIRECTORY where it is written down, by process: ….lies has a
   byte for each lie, ….told all that was handed to the host. Only what leads outside is lied about: sockets that
   have an address, clocks, wake-ups, and files in LIES_DIRECTORY; pipes and socket pairs are the enclave's own.
   An answer may name more bytes than there is room for. No byte is written beyond that room: Occlum, too, copies
   into the enclave by the size that the enclave gave. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
enum { OVERLONG = 4096, NO_SUCH_ERROR = -4096, HOUR_S = 3600 };

static const char *kinds = "", *directory;
static uint64_t state = 1;
static unsigned honest_calls = 12;

__attribute__((constructor)) static void attach(void)
{
    const char *seed = getenv("LIES_SEED");
    if (getenv("LIES")) kinds = getenv("LIES");
    if (!strcmp(kinds, "descriptors")) honest_calls = 1; /* Few are made. */
    directory = getenv("LIES_DIRECTORY");
    if (seed) state = strtoull(seed, NULL, 10) * 2 + 1;
}

/* Past everything that is interposed here; opened each time, as a process may close what it does not know. */
static void note(const char *suffix, const void *bytes, size_t length)
{
    char path[256];
    if (!directory) return;
    snprintf(path, sizeof path, "%s/%d.%s", directory, (int)getpid(), suffix);
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0) return;
    syscall(SYS_write, file, bytes, length);
    syscall(SYS_close, file);
}

/* Whether this call is lied about in this way: one of `often`. */
static int lies(const char *about, unsigned often)
{
    static unsigned calls;
    if (!strstr(kinds, about) || __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) <= honest_calls) return 0;
    state = state * 6364136223846793005u + 1442695040888963407u;
    if ((state >> 33) % often) return 0;
    note("lies", "!", 1);
    return 1;
}

static int outside(int fd)
{
    struct sockaddr_storage at;
    for (int own = 0; own < 2; own++) {
        socklen_t length = sizeof at;
        if ((own ? getsockname : getpeername)(fd, (struct sockaddr *)&at, &length) == 0
            && (at.ss_family != AF_UNIX || length > sizeof(sa_family_t)))
            return 1;
    }
    return 0;
}

static ssize_t fails(int error)
{
    errno = error;
    return -1;
}

/* What the enclave is told of a transfer that went as `done`. */
static ssize_t said(ssize_t done, size_t length)
{
    if (done <= 0) return done;
    if (lies("overlong", 10)) return (ssize_t)length + OVERLONG;
    if (lies("negative", 10)) return NO_SUCH_ERROR;
    return done;
}

/* An answer without any transfer, or 1 for none. */
static ssize_t refused(void)
{
    if (lies("again", 6)) return fails(EINTR);
    if (lies("again", 6)) return fails(EAGAIN);
    if (lies("errors", 30)) return fails(state >> 40 & 1 ? EBADF : 12345);
    if (lies("ends", 10)) return 0;
    return 1;
}

static size_t less(size_t length)
{
    return length > 1 && lies("short", 2) ? 1 + length / 7 : length;
}

ssize_t recv(int fd, void *buffer, size_t length, int flags)
{
    if (!outside(fd)) return REAL(recv)(fd, buffer, length, flags);
    ssize_t answer = refused();
    if (answer != 1) return answer;
    ssize_t got = REAL(recv)(fd, buffer, less(length), flags);
    if (got > 0 && lies("bytes", 10)) ((uint8_t *)buffer)[(state >> 33) % (uint64_t)got] ^= 0x20;
    return said(got, length);
}

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    if (!outside(fd)) return REAL(send)(fd, bytes, length, flags);
    note("told", bytes, length);
    ssize_t answer = refused();
    if (answer != 1) return answer;
    return said(REAL(send)(fd, bytes, less(length), flags), length);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    for (size_t part = 0; outside(fd) && part < message->msg_iovlen; part++)
        note("told", message->msg_iov[part].iov_base, message->msg_iov[part].iov_len);
    ssize_t sent = REAL(sendmsg)(fd, message, flags);
    return outside(fd) ? said(sent, (size_t)(sent > 0 ? sent : 0)) : sent;
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    struct stat file;
    if (fstat(fd, &file) == 0 && S_ISREG(file.st_mode)) note("told", bytes, length);
    return REAL(write)(fd, bytes, length);
}

/* A file in LIES_DIRECTORY; its one read is lied about. */
static int foreign_file(int fd)
{
    char link[64], path[256];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = directory ? readlink(link, path, sizeof path - 1) : -1;
    return length > 0 && !strncmp(path, directory, strlen(directory));
}

ssize_t read(int fd, void *buffer, size_t length)
{
    if (strncmp(kinds, "file-", 5) || !foreign_file(fd)) return REAL(read)(fd, buffer, length);
    note("lies", "!", 1);
    if (!strcmp(kinds, "file-error")) return fails(EIO);
    if (!strcmp(kinds, "file-negative")) return NO_SUCH_ERROR;
    if (!strcmp(kinds, "file-ends")) return 0;
    ssize_t got = REAL(read)(fd, buffer, length);
    if (!strcmp(kinds, "file-bytes")) memset(buffer, 0xff, got > 0 ? (size_t)got : 0);
    return !strcmp(kinds, "file-overlong") ? (ssize_t)length + OVERLONG : got;
}

/* Another connection's descriptor, or none that there is. */
int accept4(int fd, struct sockaddr *peer, socklen_t *length, int flags)
{
    static int earlier = -1;
    int made = REAL(accept4)(fd, peer, length, flags);
    if (made < 0) return made;
    if (earlier >= 0 && lies("descriptors", 3)) {
        close(made);
        return (int)syscall(SYS_fcntl, earlier, F_DUPFD_CLOEXEC, 3);
    }
    if (lies("descriptors", 3)) {
        close(made);
        return NO_SUCH_ERROR;
    }
    return earlier = made;
}

int socket(int family, int type, int protocol)
{
    return lies("descriptors", 4) ? (int)fails(EMFILE) : REAL(socket)(family, type, protocol);
}

int epoll_wait(int fd, struct epoll_event *events, int most, int timeout)
{
    static struct epoll_event repeated;
    if (lies("wakeups", 4)) return 0;
    if (lies("wakeups", 4) && repeated.events) {
        events[0] = repeated;
        return 1;
    }
    if (lies("sleep", 1)) {
        usleep(50000);
        return 0;
    }
    int count = REAL(epoll_wait)(fd, events, most, timeout);
    if (count > 0) repeated = events[0];
    if (count > 0 && lies("wakeups", 8)) events[count - 1].data.u64 = state; /* Nobody's; and the true one waits. */
    if (count > 0 && lies("wakeups", 8)) events[0].events = ~0u;
    return count;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int answer = REAL(clock_gettime)(clock, now);
    if (lies("times", 50)) now->tv_sec += state >> 40 & 1 ? HOUR_S : -HOUR_S;
    return answer;
}
