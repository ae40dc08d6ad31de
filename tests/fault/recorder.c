#include "tests/fault/recorder.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fault/interpose.h"

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define PAGE         4096u

static struct {
        const char *folder; /* NULL: nothing is recorded */
        dev_t device;
        struct record *all;
        size_t count, capacity;
        char mapped[256];
        uint8_t *seen; /* of the mapped file, as recorded */
        size_t seen_len;
        const char *boot;
} recorder;

static struct record *add(enum record_kind kind, uint64_t ino)
{
        struct record *record;

        if (recorder.count == recorder.capacity) {
                recorder.capacity = recorder.capacity * 2 + 256;
                recorder.all = realloc(recorder.all, recorder.capacity * sizeof(*recorder.all));
                if (!recorder.all)
                        abort();
        }
        record = &recorder.all[recorder.count++];
        *record = (struct record){ .kind = kind, .ino = ino };
        return record;
}

static void add_write(uint64_t ino, const void *data, size_t len, uint64_t offset)
{
        struct record *record = add(RECORD_WRITE, ino);

        record->offset = offset;
        record->len = len;
        record->data = malloc(len + 1);
        if (!record->data)
                abort();
        memcpy(record->data, data, len);
}

/* ---- what is mapped ---- */

static void look_at_pages(uint64_t ino, const uint8_t *now, size_t len)
{
        if (recorder.seen_len < len) {
                recorder.seen = realloc(recorder.seen, len);
                if (!recorder.seen)
                        abort();
                memset(recorder.seen + recorder.seen_len, 0, len - recorder.seen_len);
                recorder.seen_len = len;
        }
        for (size_t at = 0; at < len; at += PAGE) {
                size_t n = len - at < PAGE ? len - at : PAGE;
                if (memcmp(recorder.seen + at, now + at, n) != 0) {
                        memcpy(recorder.seen + at, now + at, n);
                        add_write(ino, now + at, n, at);
                }
        }
}

static void look_at_mapped(void)
{
        static uint8_t bytes[64 * PAGE];
        int fd = REAL(open)(recorder.mapped, O_RDONLY | O_CLOEXEC);
        struct stat st;
        ssize_t n;

        if (fd < 0)
                return;
        n = read(fd, bytes, sizeof(bytes));
        if (n > 0 && fstat(fd, &st) == 0)
                look_at_pages(st.st_ino, bytes, (size_t)n);
        close(fd);
}

/* ---- which files ---- */

static bool is_left_out(const char *path)
{
        size_t len = strlen(path);

        return len >= 4 && strcmp(path + len - 4, "-shm") == 0;
}

/* PATH as seen from the folder; false: it is none of what is recorded. */
static bool locate(int dirfd, const char *path, char ret[RECORD_PATH_MAX])
{
        char link[64], whole[512];
        ssize_t n = 0;
        size_t len;

        if (!recorder.folder)
                return false;
        if (path[0] != '/') {
                snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
                n = readlink(dirfd == AT_FDCWD ? "/proc/self/cwd" : link, whole, sizeof(whole) - 1);
                if (n < 0)
                        return false;
        }
        snprintf(whole + n, sizeof(whole) - (size_t)n, "%s%s", n > 0 ? "/" : "", path);
        len = strlen(recorder.folder);
        if (strncmp(whole, recorder.folder, len) != 0 || whole[len] != '/' || is_left_out(whole))
                return false;
        snprintf(ret, RECORD_PATH_MAX, "%s", whole + len + 1);
        return true;
}

static bool of_fd(int fd, struct stat *ret)
{
        char link[64], path[512];
        ssize_t n;

        if (!recorder.folder || fstat(fd, ret) < 0 || ret->st_dev != recorder.device)
                return false;
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof(path) - 1);
        if (n < 0)
                return false;
        path[n] = '\0';
        return strncmp(path, recorder.folder, strlen(recorder.folder)) == 0 && !is_left_out(path);
}

/* ---- bytes ---- */

static void note_write(int fd, const void *data, ssize_t len, off_t offset)
{
        struct stat st;

        if (len > 0 && of_fd(fd, &st)) {
                add_write(st.st_ino, data, (size_t)len, (uint64_t)offset);
                look_at_mapped();
        }
}

PUBLIC ssize_t write(int fd, const void *data, size_t len)
{
        off_t at = recorder.folder ? lseek(fd, 0, SEEK_CUR) : -1;
        ssize_t n = REAL(write)(fd, data, len);

        if (at >= 0)
                note_write(fd, data, n, at);
        return n;
}

#define PWRITE(name, offset)                                                                                 \
        PUBLIC ssize_t name(int fd, const void *data, size_t len, offset at)                                 \
        {                                                                                                    \
                ssize_t n = REAL(name)(fd, data, len, at);                                                   \
                note_write(fd, data, n, at);                                                                 \
                return n;                                                                                    \
        }

PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

static int note_length(int fd, int r)
{
        struct stat st;

        if (r == 0 && of_fd(fd, &st)) {
                add(RECORD_LENGTH, st.st_ino)->offset = (uint64_t)st.st_size;
                look_at_mapped();
        }
        return r;
}

PUBLIC int ftruncate(int fd, off_t len)
{
        return note_length(fd, REAL(ftruncate)(fd, len));
}

PUBLIC int ftruncate64(int fd, off64_t len)
{
        return note_length(fd, REAL(ftruncate64)(fd, len));
}

PUBLIC int posix_fallocate(int fd, off_t at, off_t len)
{
        return note_length(fd, REAL(posix_fallocate)(fd, at, len));
}

PUBLIC int posix_fallocate64(int fd, off64_t at, off64_t len)
{
        return note_length(fd, REAL(posix_fallocate64)(fd, at, len));
}

static int note_attributes(int fd, int r)
{
        struct stat st;

        if (r == 0 && of_fd(fd, &st)) {
                struct record *record = add(RECORD_ATTRIBUTES, st.st_ino);
                record->mode = st.st_mode;
                record->mtime = st.st_mtim;
                look_at_mapped();
        }
        return r;
}

PUBLIC int fchmod(int fd, mode_t mode)
{
        return note_attributes(fd, REAL(fchmod)(fd, mode));
}

PUBLIC int futimens(int fd, const struct timespec times[2])
{
        return note_attributes(fd, REAL(futimens)(fd, times));
}

/* It is enough to know of it: the folder is in memory. */
static int note_sync(int fd)
{
        char link[64], path[512];
        struct stat st;
        ssize_t n;

        if (of_fd(fd, &st)) {
                struct record *record = add(RECORD_SYNC, st.st_ino);
                record->mode = st.st_mode;
                snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
                n = readlink(link, path, sizeof(path) - 1);
                path[n > 0 ? n : 0] = '\0';
                if (S_ISDIR(st.st_mode) && n > (ssize_t)strlen(recorder.folder))
                        snprintf(record->path, RECORD_PATH_MAX, "%s", path + strlen(recorder.folder) + 1);
        }
        return 0;
}

PUBLIC int fsync(int fd)
{
        return note_sync(fd);
}

PUBLIC int fdatasync(int fd)
{
        return note_sync(fd);
}

/* ---- names ---- */

static uint64_t ino_at(int dirfd, const char *path)
{
        struct stat st;

        return fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

static int open_recorded(int dirfd, const char *path, int flags, mode_t mode)
{
        char located[RECORD_PATH_MAX];
        bool ours = locate(dirfd, path, located), is_new = ours && ino_at(dirfd, path) == 0;
        int fd = REAL(openat)(dirfd, path, flags, mode);
        struct stat st;

        if (fd < 0 || !ours || fstat(fd, &st) < 0)
                return fd;
        if (is_new)
                snprintf(add(RECORD_CREATE, st.st_ino)->path, RECORD_PATH_MAX, "%s", located);
        else if (flags & O_TRUNC)
                add(RECORD_LENGTH, st.st_ino);
        return fd;
}

#define OPEN(name, dirfd, parameters)                                                                        \
        PUBLIC int name parameters                                                                           \
        {                                                                                                    \
                mode_t mode = MODE_AFTER(flags);                                                             \
                if (recorder.boot && strcmp(path, BOOT_ID_PATH) == 0)                                        \
                        path = recorder.boot;                                                                \
                return open_recorded(dirfd, path, flags, mode);                                              \
        }

OPEN(open, AT_FDCWD, (const char *path, int flags, ...))
OPEN(open64, AT_FDCWD, (const char *path, int flags, ...))
OPEN(openat, dirfd, (int dirfd, const char *path, int flags, ...))
OPEN(openat64, dirfd, (int dirfd, const char *path, int flags, ...))

PUBLIC int mkdirat(int dirfd, const char *path, mode_t mode)
{
        char located[RECORD_PATH_MAX];
        int r = REAL(mkdirat)(dirfd, path, mode);

        if (r == 0 && locate(dirfd, path, located))
                snprintf(add(RECORD_FOLDER, ino_at(dirfd, path))->path, RECORD_PATH_MAX, "%s", located);
        return r;
}

PUBLIC int mkdir(const char *path, mode_t mode)
{
        return mkdirat(AT_FDCWD, path, mode);
}

PUBLIC int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
        char located[RECORD_PATH_MAX];
        int r = REAL(renameat)(from_fd, from, to_fd, to);

        if (r == 0 && locate(from_fd, from, located)) {
                struct record *record = add(RECORD_RENAME, ino_at(to_fd, to));
                memcpy(record->path, located, RECORD_PATH_MAX);
                if (!locate(to_fd, to, record->to))
                        abort();
                look_at_mapped();
        }
        return r;
}

PUBLIC int unlinkat(int dirfd, const char *path, int flags)
{
        char located[RECORD_PATH_MAX];
        bool ours = locate(dirfd, path, located);
        uint64_t ino = ours ? ino_at(dirfd, path) : 0;
        int r = REAL(unlinkat)(dirfd, path, flags);

        if (r == 0 && ours) {
                snprintf(add(RECORD_UNLINK, ino)->path, RECORD_PATH_MAX, "%s", located);
                look_at_mapped();
        }
        return r;
}

PUBLIC int unlink(const char *path)
{
        return unlinkat(AT_FDCWD, path, 0);
}

/* ---- */

void recorder_begin(const char *folder, const char *mapped)
{
        struct stat st;

        if (stat(folder, &st) < 0)
                abort();
        snprintf(recorder.mapped, sizeof(recorder.mapped), "%s/%s", folder, mapped);
        recorder.device = st.st_dev;
        recorder.folder = folder;
}

void recorder_end(void)
{
        recorder.folder = NULL;
}

void recorder_clear(void)
{
        for (size_t i = 0; i < recorder.count; i++)
                free(recorder.all[i].data);
        free(recorder.all);
        free(recorder.seen);
        recorder.all = NULL;
        recorder.seen = NULL;
        recorder.count = recorder.capacity = recorder.seen_len = 0;
}

const struct record *recorder_get(size_t *ret_count)
{
        *ret_count = recorder.count;
        return recorder.all;
}

void recorder_set_boot(const char *path)
{
        recorder.boot = path;
}
