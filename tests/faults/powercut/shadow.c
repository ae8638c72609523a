/* A power cut for processes, loaded with LD_PRELOAD: it notes what of a directory would be on the disk.
 *
 * The theory. POSIX promises two things. fsync or fdatasync of a file makes the file's content durable, whichever
 * process wrote it and by whatever call. fsync of a directory makes its list of names durable: what was created there,
 * renamed or removed. Nothing else is promised, so this library intercepts those two calls and nothing else; there is
 * no write, truncation, rename or memory map that it could fail to see. After each call that succeeded, and before the
 * caller learns of it, the file's content or the directory's list is copied into the shadow directory:
 *
 *     POWERCUT_SHADOW/<inode>     for a file: its content at its last fsync
 *                                 for a directory: its entries at its last fsync, "<mode> <inode> <name>\0" each
 *
 * where <inode> is the inode's number and time of birth, as numbers of deleted files are given out again. The machine
 * itself does not go down, so the shadow needs no fsync: it outlives a kill -9 in the page cache, which is exactly why
 * a kill alone cannot show that an fsync is missing.
 *
 * An fsync that failed is a matter of its own (fail one with ../weather): the kernel tells of it once and takes the
 * pages for clean. So `powercut_lose` notes which pages of the file were dirty, in <inode>.lost, a byte for each, and
 * the fsyncs after it leave them out, until `powercut_written` says that they were written again.
 *
 * This is strict. File systems often keep more: unsynced writes that happened to be flushed, or, in ext4, the name of
 * a new file when only the file was synced. Software that must not lose data may not rely on that.
 *
 * Not seen: sync(), syncfs(), msync(), O_SYNC, io_uring, and system calls that bypass the C library. Whatever is made
 * durable by one of these only, is lost in the cut; SQLite and Python's os.fsync use none of them.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *data;   /* absolute, without symbolic links: compared with what the kernel calls a file */
static const char *shadow; /* absolute, on any file system */
static int lost;           /* whether a file has lost pages: every write is looked at then */

enum { PAGE = 4096 };

/* A simulator that cannot do its work must not look like one that found no fault. */
static void die(const char *what)
{
    dprintf(STDERR_FILENO, "powercut: %s: %s\n", what, strerror(errno));
    abort();
}

static int opened(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0)
        die(path);
    return fd;
}

__attribute__((constructor)) static void begin(void)
{
    data = getenv("POWERCUT_DATA");
    shadow = getenv("POWERCUT_SHADOW");
    errno = EINVAL;
    if (!data || !shadow)
        die("POWERCUT_DATA and POWERCUT_SHADOW must be set");
    char mark[PATH_MAX];
    snprintf(mark, sizeof mark, "%s/lost", shadow);
    lost = !access(mark, F_OK); /* in the life of a process before this one */
}

/* False when the name is no longer there: somebody removed it since it was listed. */
static int look_up(int fd, const char *name, struct statx *found)
{
    unsigned wanted = STATX_BASIC_STATS | STATX_BTIME;
    if (statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, wanted, found)) {
        if (errno != ENOENT)
            die(name);
        return 0;
    }
    if (!(found->stx_mask & STATX_BTIME))
        die("this file system does not tell when a file was created");
    return 1;
}

static const char *inode(const struct statx *file, char text[64])
{
    snprintf(text, 64, "%llu-%lld.%09u", (unsigned long long)file->stx_ino, (long long)file->stx_btime.tv_sec,
             (unsigned)file->stx_btime.tv_nsec);
    return text;
}

static int opened_lost(const char *kept, int flags)
{
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s.lost", kept);
    return open(path, flags | O_CLOEXEC, 0600);
}

/* Not by the C library, which ../weather may make fail. */
static ssize_t read_at(int fd, char *to, size_t size, off_t at)
{
    return syscall(SYS_pread64, fd, to, size, at);
}

static int is_lost(int map, off_t at)
{
    char mark = 0;
    return map >= 0 && pread(map, &mark, 1, at / PAGE) == 1 && mark;
}

/* The caller's own descriptor is read wherever it can be: to open and close a file once more would drop every POSIX lock
 * this process holds on it, which are the locks of SQLite. */
static int readable(int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY ? opened(path, O_RDONLY) : fd;
}

/* Compares first, so that a long file of which little changed costs reading only. */
static void keep_content(int fd, const char *kept)
{
    static char now[1 << 16], before[1 << 16]; /* guarded by the lock */
    int from = readable(fd), to = opened(kept, O_RDWR | O_CREAT), map = lost ? opened_lost(kept, O_RDONLY) : -1;

    off_t at = 0;
    ssize_t size;
    while ((size = read_at(from, now, sizeof now, at)) > 0) {
        int same = pread(to, before, size, at) == size && !memcmp(now, before, size);
        for (ssize_t done = 0; !same && done < size; done += PAGE) {
            ssize_t part = size - done < PAGE ? size - done : PAGE;
            if (!is_lost(map, at + done) && pwrite(to, now + done, part, at + done) != part)
                die(kept);
        }
        at += size;
    }
    if (size < 0 || ftruncate(to, at))
        die(kept);
    close(to);
    if (map >= 0)
        close(map);
    if (from != fd)
        close(from);
}

/* Files and directories only; nothing else can be synced. The list is replaced whole: a rename shows or it does not. */
static void keep_names(int fd, const char *kept)
{
    char fresh[PATH_MAX];
    snprintf(fresh, sizeof fresh, "%s/fresh", shadow);
    FILE *out = fopen(fresh, "we");
    DIR *directory = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!out || !directory)
        die(kept);

    struct dirent *entry;
    while ((entry = readdir(directory))) {
        struct statx file;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || !look_up(fd, entry->d_name, &file))
            continue;
        if (!S_ISREG(file.stx_mode) && !S_ISDIR(file.stx_mode))
            continue;
        char text[64];
        fprintf(out, "%o %s %s%c", file.stx_mode, inode(&file, text), entry->d_name, 0);
    }
    closedir(directory);
    if (fclose(out) || rename(fresh, kept))
        die(kept);
}

static int within_data(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        die(link);
    path[size] = 0;
    size_t root = strlen(data);
    return !strncmp(path, data, root) && (path[root] == '/' || !path[root]);
}

/* One at a time, among the threads and among all processes that share the shadow: two copies of one file that
 * overtook each other would leave an old content. Each call opens the lock anew, since flock belongs to what open
 * returned; the kernel lifts it when the process is killed. */
static int locked(void)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/lock", shadow);
    int lock = opened(path, O_RDWR | O_CREAT);
    while (flock(lock, LOCK_EX))
        if (errno != EINTR)
            die(path);
    return lock;
}

/* Where a file or directory of the data directory is kept; its mode, or 0 if it is elsewhere. */
static mode_t find(int fd, char kept[PATH_MAX])
{
    struct statx file;
    char text[64];
    if (!within_data(fd) || !look_up(fd, "", &file))
        return 0;
    snprintf(kept, PATH_MAX, "%s/%s", shadow, inode(&file, text));
    return file.stx_mode;
}

static void keep(int fd)
{
    char kept[PATH_MAX];
    mode_t mode = find(fd, kept);
    if (!mode)
        return;
    int lock = locked();
    if (S_ISREG(mode))
        keep_content(fd, kept);
    else if (S_ISDIR(mode))
        keep_names(fd, kept);
    close(lock);
}

/* An fsync of this file is about to fail, and what is dirty in it counts as clean from here on. A directory is not
 * lost: file systems keep their own books in a log, and stop altogether if they cannot. */
void powercut_lose(int fd)
{
    char kept[PATH_MAX], mark[PATH_MAX], now[PAGE], before[PAGE];
    if (!S_ISREG(find(fd, kept)))
        return;
    int lock = locked(), from = readable(fd);
    int durable = opened(kept, O_RDWR | O_CREAT), map = opened_lost(kept, O_RDWR | O_CREAT);
    if (map < 0)
        die(kept);
    ssize_t size;
    for (off_t at = 0; (size = read_at(from, now, sizeof now, at)) > 0; at += size) {
        int same = pread(durable, before, size, at) == size && !memcmp(now, before, size);
        if (!same && pwrite(map, "1", 1, at / PAGE) != 1)
            die(kept);
    }
    snprintf(mark, sizeof mark, "%s/lost", shadow);
    close(opened(mark, O_RDWR | O_CREAT));
    lost = 1;
    close(map);
    close(durable);
    if (from != fd)
        close(from);
    close(lock);
}

/* These bytes of a file were written, or cut off: their pages are dirty, and can be synced, again. */
void powercut_written(int fd, off_t at, size_t size)
{
    static const char none[PAGE];
    char kept[PATH_MAX];
    struct stat marks;
    if (!lost || !S_ISREG(find(fd, kept)))
        return;
    int lock = locked(), map = opened_lost(kept, O_RDWR);
    if (map >= 0) {
        off_t first = at / PAGE, last = at + (off_t)size - 1;
        if (fstat(map, &marks))
            die(kept);
        for (last = last / PAGE < marks.st_size ? last / PAGE : marks.st_size - 1; first <= last; first += PAGE) {
            off_t some = last - first + 1 < PAGE ? last - first + 1 : PAGE;
            if (pwrite(map, none, some, first) != some)
                die(kept);
        }
        close(map);
    }
    close(lock);
}

/* The real call first: what it refuses is not durable, and the program keeps its pace. A kill between the two, or in
 * the middle of the copy, is a power cut in the middle of an fsync. */
static int synced(long call, int fd)
{
    if (syscall(call, fd))
        return -1;
    int before = errno;
    keep(fd);
    errno = before;
    return 0;
}

int fsync(int fd)
{
    return synced(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return synced(SYS_fdatasync, fd);
}
