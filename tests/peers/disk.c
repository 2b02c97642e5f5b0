/* A library that is loaded before the C library, and stands between a program and its disk.

   The file that DISK_FAULTS names holds rules, in the form of `struct rule`; tests/peers/disk.py writes it while the
   program runs. A call that fits a rule fails, waits, or ends the program, as the rule says. A small compiler such as
   tcc must do, so that there are no atomic operations and no constructors here.

   Into the file that DISK_TRACE names goes what was written, cut, synced and removed, for whoever wants to know what would be
   left of it after a power cut: a line `OPERATION OFFSET LENGTH-OF-DATA RESULT LENGTH-OF-PATH`, then path and data. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#undef open64
#undef openat64
#undef pread64
#undef pwrite64
#undef ftruncate64
#undef posix_fallocate64

enum call { READ = 1, WRITE = 2, EXTEND = 4, SYNC = 8, NAME = 16, OPEN = 32, REMOVE = 64 };
enum action { FAIL = 0, KILL_BEFORE = 1, KILL_AFTER = 2 };

enum { RULES = 16, LONGEST = 476 };

struct rule {
    uint32_t is_on;
    uint32_t calls;        /* to which of them it is for, as a sum */
    uint32_t action;
    int32_t error;         /* that a call fails with; 0: it does not fail */
    uint32_t milliseconds; /* that it waits before */
    uint32_t halves;       /* whether every other write takes a half of the data before one fails */
    uint32_t skipped;      /* so many fitting calls pass before the rule begins to act */
    uint32_t times;        /* it acts; 0: always */
    volatile uint32_t seen; /* fitting calls so far */
    char pattern[LONGEST]; /* of the whole path of the file, or of a folder above it */
};

static struct rule *rules;
static int trace = -1;
static pthread_mutex_t tracing = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;

static void begin(void) {
    const char *path = getenv("DISK_FAULTS");
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int descriptor = path == NULL ? -1 : real_open(path, O_RDWR | O_CLOEXEC);
    if (getenv("DISK_TRACE") != NULL)
        trace = real_open(getenv("DISK_TRACE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (descriptor < 0)
        return;
    void *found = mmap(NULL, RULES * sizeof(struct rule), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (found != MAP_FAILED)
        rules = found;
    close(descriptor);
}

/* What a rule makes of a call: whether it fails, is cut to a half, or kills afterwards. */
struct verdict {
    int error;
    int halves;
    int kills;
};

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static int is_for_any(uint32_t calls) {
    pthread_once(&once, begin);
    if (rules != NULL)
        for (int number = 0; number < RULES; number++)
            if (rules[number].is_on && rules[number].calls & calls)
                return 1;
    return 0;
}

static struct verdict judge(uint32_t call, const char *path) {
    struct verdict verdict = {0, 0, 0};
    for (int number = 0; number < RULES; number++) {
        struct rule *rule = &rules[number];
        if (!rule->is_on || !(rule->calls & call) || fnmatch(rule->pattern, path, FNM_LEADING_DIR))
            continue;
        pthread_mutex_lock(&counting);
        uint32_t before = rule->seen++;
        pthread_mutex_unlock(&counting);
        if (before < rule->skipped || (rule->times && before - rule->skipped >= rule->times))
            continue;
        if (rule->milliseconds) {
            struct timespec wait = {rule->milliseconds / 1000, rule->milliseconds % 1000 * 1000000L};
            nanosleep(&wait, NULL);
        }
        if (rule->action == KILL_BEFORE)
            die();
        verdict.kills |= rule->action == KILL_AFTER;
        verdict.halves |= rule->halves && (before - rule->skipped) % 2 == 0;
        if (rule->error)
            verdict.error = rule->error;
    }
    return verdict;
}

/* Find the path of an open file; return its length, 0 where it has none. */
static ssize_t find(int descriptor, char *path, size_t size) {
    char link[64];
    int kept = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, size - 1);
    errno = kept;
    if (length <= 0 || path[0] != '/')
        return 0;
    path[length] = '\0';
    return length;
}

static struct verdict about(uint32_t call, int descriptor) {
    struct verdict nothing = {0, 0, 0};
    char path[4096];
    return is_for_any(call) && find(descriptor, path, sizeof path) ? judge(call, path) : nothing;
}

static void note_path(char operation, const char *path, off64_t offset, const void *data, size_t size, int result) {
    static ssize_t (*real_write)(int, const void *, size_t);
    char line[128];
    ssize_t length = strlen(path);
    int kept = errno;
    if (real_write == NULL)
        *(void **)&real_write = dlsym(RTLD_NEXT, "write");
    int begins = snprintf(line, sizeof line, "%c %lld %zu %d %zd\n", operation, (long long)offset, size, result, length);
    pthread_mutex_lock(&tracing);
    if (real_write(trace, line, begins) < 0 || real_write(trace, path, length) < 0 || real_write(trace, data, size) < 0)
        abort();
    pthread_mutex_unlock(&tracing);
    errno = kept;
}

static void note(char operation, int descriptor, off64_t offset, const void *data, size_t size, int result) {
    char path[4096];
    if (trace >= 0 && find(descriptor, path, sizeof path))
        note_path(operation, path, offset, data, size, result);
}

static struct verdict about_name(uint32_t call, int folder, const char *name) {
    struct verdict nothing = {0, 0, 0};
    char path[8192];
    size_t length = 0;
    if (!is_for_any(call))
        return nothing;
    int kept = errno;
    path[0] = '\0';
    if (name[0] != '/') {
        char link[64];
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        ssize_t found = readlink(link, path, 4095);
        length = found > 0 ? (size_t)found : 0;
        path[length++] = '/';
    }
    snprintf(path + length, sizeof path - length, "%s", name);
    errno = kept;
    return judge(call, path);
}

#define REAL(type, name, ...)                           \
    static type (*real)(__VA_ARGS__);                   \
    if (real == NULL)                                   \
        *(void **)&real = dlsym(RTLD_NEXT, name)

#define RETURN(type, verdict, done)                     \
    do {                                                \
        if ((verdict).error) {                          \
            errno = (verdict).error;                    \
            return -1;                                  \
        }                                               \
        type result = (done);                           \
        if ((verdict).kills)                            \
            die();                                      \
        return result;                                  \
    } while (0)

/* A full disk takes what fits, and then nothing. */
#define RETURN_WRITTEN(verdict, size, done, offset)     \
    do {                                                \
        if ((verdict).halves && (size) > 1) {           \
            (size) /= 2;                                \
            (verdict).error = 0;                        \
        }                                               \
        if ((verdict).error) {                          \
            errno = (verdict).error;                    \
            return -1;                                  \
        }                                               \
        ssize_t result = (done);                        \
        if (result > 0)                                 \
            note('W', descriptor, offset, data, result, 0); \
        if ((verdict).kills)                            \
            die();                                      \
        return result;                                  \
    } while (0)

#define RETURN_NOTED(operation, verdict, size, done)    \
    do {                                                \
        int result = -1;                                \
        if ((verdict).error)                            \
            errno = (verdict).error;                    \
        else                                            \
            result = (done);                            \
        note(operation, descriptor, size, NULL, 0, result); \
        if ((verdict).kills)                            \
            die();                                      \
        return result;                                  \
    } while (0)

ssize_t read(int descriptor, void *data, size_t size) {
    REAL(ssize_t, "read", int, void *, size_t);
    struct verdict verdict = about(READ, descriptor);
    RETURN(ssize_t, verdict, real(descriptor, data, size));
}

ssize_t pread(int descriptor, void *data, size_t size, off_t offset) {
    REAL(ssize_t, "pread", int, void *, size_t, off_t);
    struct verdict verdict = about(READ, descriptor);
    RETURN(ssize_t, verdict, real(descriptor, data, size, offset));
}

ssize_t pread64(int descriptor, void *data, size_t size, off64_t offset) {
    REAL(ssize_t, "pread64", int, void *, size_t, off64_t);
    struct verdict verdict = about(READ, descriptor);
    RETURN(ssize_t, verdict, real(descriptor, data, size, offset));
}

ssize_t write(int descriptor, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    struct verdict verdict = about(WRITE, descriptor);
    RETURN_WRITTEN(verdict, size, real(descriptor, data, size), trace < 0 ? 0 : lseek(descriptor, 0, SEEK_CUR) - result);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    struct verdict verdict = about(WRITE, descriptor);
    RETURN_WRITTEN(verdict, size, real(descriptor, data, size, offset), offset);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    struct verdict verdict = about(WRITE, descriptor);
    RETURN_WRITTEN(verdict, size, real(descriptor, data, size, offset), offset);
}

int ftruncate(int descriptor, off_t size) {
    REAL(int, "ftruncate", int, off_t);
    struct verdict verdict = about(EXTEND, descriptor);
    RETURN_NOTED('T', verdict, size, real(descriptor, size));
}

int ftruncate64(int descriptor, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    struct verdict verdict = about(EXTEND, descriptor);
    RETURN_NOTED('T', verdict, size, real(descriptor, size));
}

/* These two return an error and do not set errno. */
int posix_fallocate(int descriptor, off_t offset, off_t size) {
    REAL(int, "posix_fallocate", int, off_t, off_t);
    struct verdict verdict = about(EXTEND, descriptor);
    return verdict.error ? verdict.error : real(descriptor, offset, size);
}

int posix_fallocate64(int descriptor, off64_t offset, off64_t size) {
    REAL(int, "posix_fallocate64", int, off64_t, off64_t);
    struct verdict verdict = about(EXTEND, descriptor);
    return verdict.error ? verdict.error : real(descriptor, offset, size);
}

int fsync(int descriptor) {
    REAL(int, "fsync", int);
    struct verdict verdict = about(SYNC, descriptor);
    RETURN_NOTED('S', verdict, 0, real(descriptor));
}

int fdatasync(int descriptor) {
    REAL(int, "fdatasync", int);
    struct verdict verdict = about(SYNC, descriptor);
    RETURN_NOTED('S', verdict, 0, real(descriptor));
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    struct verdict verdict = about_name(NAME, AT_FDCWD, to);
    RETURN(int, verdict, real(from, to));
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    REAL(int, "renameat", int, const char *, int, const char *);
    struct verdict verdict = about_name(NAME, to_folder, to);
    RETURN(int, verdict, real(from_folder, from, to_folder, to));
}

int link(const char *from, const char *to) {
    REAL(int, "link", const char *, const char *);
    struct verdict verdict = about_name(NAME, AT_FDCWD, to);
    RETURN(int, verdict, real(from, to));
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    struct verdict verdict = about_name(NAME, to_folder, to);
    RETURN(int, verdict, real(from_folder, from, to_folder, to, flags));
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    struct verdict verdict = about_name(NAME, AT_FDCWD, path);
    RETURN(int, verdict, real(path, mode));
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    struct verdict verdict = about_name(REMOVE, AT_FDCWD, path);
    if (trace >= 0 && !verdict.error)
        note_path('U', path, 0, NULL, 0, 0);
    RETURN(int, verdict, real(path));
}

int unlinkat(int folder, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    struct verdict verdict = about_name(REMOVE, folder, path);
    RETURN(int, verdict, real(folder, path, flags));
}

/* Files that are opened only to be read are let through: a disk that takes nothing can be read. */
#define MODE(flags)                                     \
    mode_t mode = 0;                                    \
    if ((flags) & (O_CREAT | O_TMPFILE)) {              \
        va_list more;                                   \
        va_start(more, flags);                          \
        mode = va_arg(more, int);                       \
        va_end(more);                                   \
    }

#define ABOUT_OPEN(folder, path, flags)                 \
    struct verdict verdict = {0, 0, 0};                 \
    if ((flags) & (O_WRONLY | O_RDWR | O_CREAT))        \
    verdict = about_name(OPEN, folder, path)

int open(const char *path, int flags, ...) {
    MODE(flags)
    REAL(int, "open", const char *, int, ...);
    ABOUT_OPEN(AT_FDCWD, path, flags);
    RETURN(int, verdict, real(path, flags, mode));
}

int open64(const char *path, int flags, ...) {
    MODE(flags)
    REAL(int, "open64", const char *, int, ...);
    ABOUT_OPEN(AT_FDCWD, path, flags);
    RETURN(int, verdict, real(path, flags, mode));
}

int openat(int folder, const char *path, int flags, ...) {
    MODE(flags)
    REAL(int, "openat", int, const char *, int, ...);
    ABOUT_OPEN(folder, path, flags);
    RETURN(int, verdict, real(folder, path, flags, mode));
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags)
    REAL(int, "openat64", int, const char *, int, ...);
    ABOUT_OPEN(folder, path, flags);
    RETURN(int, verdict, real(folder, path, flags, mode));
}
