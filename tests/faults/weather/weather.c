/* Bad weather for processes, loaded with LD_PRELOAD: a disk that is full, broken or read-only, and a clock that jumps.
 *
 * A control file, mapped by the processes and by whoever steers them, says what is the matter right now; `struct sky`
 * is its layout, and __init__.py writes it. Only files below WEATHER_DATA are concerned. A rule makes one kind of call
 * fail with an error number, for some kinds of files, so many times or until it is taken back. `room` is what is left
 * of the disk: files may grow by so much, the write that crosses the end is a short one, and the next has ENOSPC; what
 * does not grow a file succeeds, as on a real disk.
 *
 * An fsync that fails is worse than a refusal. The kernel reports such a fault once and takes the pages for clean: the
 * next fsync succeeds, although they never came to the disk. Together with shadow.c this library does the same: what
 * was dirty when an fsync failed is lost in a power cut, unless it was written again and synced.
 *
 * The clock is the one that people set. A machine that slept finds it ahead together with CLOCK_BOOTTIME. Deadlines of
 * waits belong to CLOCK_MONOTONIC, which is left alone.
 *
 * Not seen: memory maps, fallocate, sendfile and its like, system calls that bypass the C library. SQLite and Python's
 * files use none of them for what must last.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum kind { NAMES, WRITES, SYNCS, READS, KINDS }; /* NAMES: to create, rename or remove one, or open to write */
enum place { DATABASE = 1, LOG = 2, SEARCH = 4, BLOBS = 8, FOLDERS = 16, REST = 32 };

struct rule {
    int64_t error;  /* 0: none */
    int64_t places; /* the sum of those it holds for */
    int64_t left;   /* how many times yet; -1: always */
    int64_t done;   /* how many times it failed a call, counted here */
};

struct sky {
    int64_t clock; /* nanoseconds that the clock is ahead */
    int64_t slept; /* nanoseconds that the one is ahead that goes on while a machine sleeps */
    int64_t room;  /* bytes; -1: no end */
    int64_t full;  /* how many writes found none or too little, counted here */
    struct rule rules[KINDS];
};

static struct sky *sky;
static const char *data;
static size_t root;

/* Of shadow.c, if it is loaded as well. */
static void (*lose)(int fd);
static void (*written)(int fd, off_t at, size_t size);

static void die(const char *what)
{
    dprintf(STDERR_FILENO, "weather: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void begin(void)
{
    const char *control = getenv("WEATHER_CONTROL");
    data = getenv("WEATHER_DATA");
    errno = EINVAL;
    if (!control || !data)
        die("WEATHER_CONTROL and WEATHER_DATA must be set");
    root = strlen(data);
    int fd = syscall(SYS_openat, AT_FDCWD, control, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        die(control);
    void *found = mmap(NULL, sizeof *sky, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (found == MAP_FAILED)
        die(control);
    syscall(SYS_close, fd);
    lose = dlsym(RTLD_DEFAULT, "powercut_lose");
    written = dlsym(RTLD_DEFAULT, "powercut_written");
    sky = found;
}

/* Which place a path is in; 0 if it is no business of ours. */
static int place_of_path(const char *path)
{
    if (strncmp(path, data, root) || (path[root] != '/' && path[root]))
        return 0;
    if (!path[root])
        return FOLDERS;
    const char *name = path + root + 1;
    if (!strcmp(name, "agentchat.db"))
        return DATABASE;
    if (!strcmp(name, "agentchat.db-wal"))
        return LOG;
    if (!strncmp(name, "search.db", 9))
        return SEARCH;
    if (!strncmp(name, "blobs", 5))
        return BLOBS;
    return REST;
}

static int place_of(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    int place = place_of_path(path);
    struct stat file;
    return place && !fstat(fd, &file) && S_ISDIR(file.st_mode) ? FOLDERS : place;
}

/* Whether this call is to fail; errno then says why. */
static int fails(enum kind kind, int place)
{
    struct rule *rule = &sky->rules[kind];
    int64_t error = __atomic_load_n(&rule->error, __ATOMIC_SEQ_CST);
    if (!error || !(place & rule->places))
        return 0;
    int64_t left = __atomic_load_n(&rule->left, __ATOMIC_SEQ_CST);
    while (left > 0 && !__atomic_compare_exchange_n(&rule->left, &left, left - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    if (!left)
        return 0;
    __atomic_add_fetch(&rule->done, 1, __ATOMIC_SEQ_CST);
    errno = (int)error;
    return 1;
}

static int concerned(enum kind kind)
{
    return sky && __atomic_load_n(&sky->rules[kind].error, __ATOMIC_SEQ_CST);
}

static int name_fails(const char *path)
{
    return concerned(NAMES) && fails(NAMES, place_of_path(path));
}

/* Writing */

/* How much of a write goes through: all of it, a part, or nothing (-1, errno says why). */
static ssize_t admitted(int fd, size_t size, off_t at)
{
    int limited = sky && __atomic_load_n(&sky->room, __ATOMIC_SEQ_CST) >= 0;
    if (!limited && !concerned(WRITES))
        return size;
    int place = place_of(fd);
    if (!place)
        return size;
    if (fails(WRITES, place))
        return -1;
    struct stat file;
    if (!limited || fstat(fd, &file))
        return size;
    int64_t grows = at + (int64_t)size - file.st_size;
    if (grows <= 0)
        return size;
    int64_t room = __atomic_load_n(&sky->room, __ATOMIC_SEQ_CST), taken;
    do {
        if (room < 0)
            return size;
        taken = grows < room ? grows : room;
    } while (!__atomic_compare_exchange_n(&sky->room, &room, room - taken, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    if (taken == grows)
        return size;
    __atomic_add_fetch(&sky->full, 1, __ATOMIC_SEQ_CST);
    int64_t part = (int64_t)size - (grows - taken);
    if (part > 0)
        return part;
    errno = ENOSPC;
    return -1;
}

static ssize_t wrote(int fd, ssize_t size, off_t at)
{
    if (size > 0 && written)
        written(fd, at, size);
    return size;
}

static off_t end_or_here(int fd)
{
    int appends = fcntl(fd, F_GETFL) & O_APPEND;
    return lseek(fd, 0, appends ? SEEK_END : SEEK_CUR); /* -1 for what has no places: a pipe, a socket */
}

ssize_t write(int fd, const void *from, size_t size)
{
    off_t at = sky ? end_or_here(fd) : -1;
    if (at < 0)
        return syscall(SYS_write, fd, from, size);
    ssize_t part = admitted(fd, size, at);
    return part < 0 ? -1 : wrote(fd, syscall(SYS_write, fd, from, part), at);
}

ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at)
{
    ssize_t part = admitted(fd, size, at);
    return part < 0 ? -1 : wrote(fd, syscall(SYS_pwrite64, fd, from, part, at), at);
}

ssize_t pwrite(int fd, const void *from, size_t size, off_t at)
{
    return pwrite64(fd, from, size, at);
}

int ftruncate64(int fd, off64_t size)
{
    int place = concerned(WRITES) ? place_of(fd) : 0;
    if (place && fails(WRITES, place))
        return -1;
    if (syscall(SYS_ftruncate, fd, size))
        return -1;
    if (written)
        written(fd, size, (size_t)1 << 40);
    return 0;
}

int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

/* Reading */

ssize_t pread64(int fd, void *to, size_t size, off64_t at)
{
    if (concerned(READS) && fails(READS, place_of(fd)))
        return -1;
    return syscall(SYS_pread64, fd, to, size, at);
}

ssize_t pread(int fd, void *to, size_t size, off_t at)
{
    return pread64(fd, to, size, at);
}

ssize_t read(int fd, void *to, size_t size)
{
    if (concerned(READS) && fails(READS, place_of(fd)))
        return -1;
    return syscall(SYS_read, fd, to, size);
}

/* Syncing. What goes through is done by the next library, which may be shadow.c. */

static int synced(const char *name, int (**next)(int), int fd)
{
    if (!*next)
        *next = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (!concerned(SYNCS) || !fails(SYNCS, place_of(fd)))
        return (*next)(fd);
    int error = errno;
    if (lose)
        lose(fd);
    errno = error;
    return -1;
}

int fsync(int fd)
{
    static int (*next)(int);
    return synced("fsync", &next, fd);
}

int fdatasync(int fd)
{
    static int (*next)(int);
    return synced("fdatasync", &next, fd);
}

/* Names */

static int opened(int directory, const char *path, int flags, mode_t mode)
{
    int changes = (flags & (O_CREAT | O_TRUNC)) || (flags & O_ACCMODE) != O_RDONLY;
    if ((changes && name_fails(path)) || (concerned(READS) && fails(READS, place_of_path(path))))
        return -1;
    return syscall(SYS_openat, directory, path, flags, mode);
}

static mode_t mode_of(int flags, va_list rest)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

#define MODE_AFTER(last)                                                                                               \
    va_list rest;                                                                                                      \
    va_start(rest, last);                                                                                              \
    mode_t mode = mode_of(last, rest);                                                                                 \
    va_end(rest)

int open(const char *path, int flags, ...)
{
    MODE_AFTER(flags);
    return opened(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE_AFTER(flags);
    return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat(int directory, const char *path, int flags, ...)
{
    MODE_AFTER(flags);
    return opened(directory, path, flags, mode);
}

int openat64(int directory, const char *path, int flags, ...)
{
    MODE_AFTER(flags);
    return opened(directory, path, flags | O_LARGEFILE, mode);
}

int mkdir(const char *path, mode_t mode)
{
    return name_fails(path) ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int chmod(const char *path, mode_t mode)
{
    return name_fails(path) ? -1 : (int)syscall(SYS_fchmodat, AT_FDCWD, path, mode);
}

int unlink(const char *path)
{
    return name_fails(path) ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int rename(const char *from, const char *to)
{
    return name_fails(to) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

/* The clock */

static void move(struct timespec *time, int64_t by)
{
    int64_t nanoseconds = time->tv_nsec + by % 1000000000;
    time->tv_sec += by / 1000000000 + (nanoseconds >= 1000000000) - (nanoseconds < 0);
    time->tv_nsec = (nanoseconds + 1000000000) % 1000000000;
}

int clock_gettime(clockid_t which, struct timespec *now)
{
    static int (*next)(clockid_t, struct timespec *);
    if (!next)
        next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = next(which, now);
    if (sky && !result && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
        move(now, __atomic_load_n(&sky->clock, __ATOMIC_SEQ_CST));
    if (sky && !result && which == CLOCK_BOOTTIME)
        move(now, __atomic_load_n(&sky->slept, __ATOMIC_SEQ_CST));
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    struct timespec found;
    int result = clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return result;
}

time_t time(time_t *to)
{
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (to)
        *to = found.tv_sec;
    return found.tv_sec;
}
