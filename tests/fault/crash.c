#include "tests/fault/crash.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR   512u
#define FILES    256
#define FRACTION 65536u

struct inode {
        uint64_t ino;
        uint8_t *data; /* owned; SIZE bytes */
        size_t size;
        mode_t mode;
        struct timespec mtime;
};

struct name {
        char path[RECORD_PATH_MAX];
        uint64_t ino;
        bool folder;
};

struct disk {
        struct inode inodes[FILES];
        struct name names[FILES];
        size_t n_inodes, n_names;
        uint64_t random;   /* the state of it */
        uint32_t keeps;    /* of FRACTION: how much of what is not synced is there */
        bool keeps_length; /* a file is as long as it was, whatever is missing of it */
        size_t journal;    /* CRASH_ORDERED: names and so on up to this record are there */
};

static void check(bool fine)
{
        if (!fine)
                abort();
}

/* splitmix64 */
static uint64_t next_random(struct disk *disk)
{
        uint64_t z = disk->random += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

static bool keeps(struct disk *disk)
{
        return next_random(disk) % FRACTION < disk->keeps;
}

/* ---- the disk ---- */

static struct inode *inode_of(struct disk *disk, uint64_t ino)
{
        for (size_t i = 0; i < disk->n_inodes; i++)
                if (disk->inodes[i].ino == ino)
                        return &disk->inodes[i];
        check(disk->n_inodes < FILES);
        disk->inodes[disk->n_inodes] = (struct inode){ .ino = ino, .mode = 0600, .mtime.tv_sec = 1000 };
        return &disk->inodes[disk->n_inodes++];
}

static void set_size(struct inode *inode, size_t size)
{
        inode->data = realloc(inode->data, size + 1);
        check(inode->data);
        if (size > inode->size)
                memset(inode->data + inode->size, 0, size - inode->size);
        inode->size = size;
}

static void put_sector(struct inode *inode, const uint8_t *data, size_t len, uint64_t offset)
{
        if (offset + len > inode->size)
                set_size(inode, offset + len);
        memcpy(inode->data + offset, data, len);
}

static void drop_name(struct disk *disk, const char *path)
{
        for (size_t i = 0; i < disk->n_names; i++) {
                if (strcmp(disk->names[i].path, path) == 0) {
                        disk->names[i] = disk->names[--disk->n_names];
                        return;
                }
        }
}

static void add_name(struct disk *disk, const char *path, uint64_t ino, bool folder)
{
        struct name *name;

        drop_name(disk, path);
        check(disk->n_names < FILES);
        name = &disk->names[disk->n_names++];
        *name = (struct name){ .ino = ino, .folder = folder };
        snprintf(name->path, sizeof(name->path), "%s", path);
}

/* ---- what is there for sure ---- */

static bool is_in(const char *path, const char *folder)
{
        const char *slash = strrchr(path, '/');
        size_t len = slash ? (size_t)(slash - path) : 0;

        return strlen(folder) == len && memcmp(path, folder, len) == 0;
}

static bool is_name(enum record_kind kind)
{
        return kind == RECORD_CREATE || kind == RECORD_FOLDER || kind == RECORD_RENAME ||
               kind == RECORD_UNLINK;
}

/* Whether SYNC, which came later, is for RECORD. A file's sync brings its length and attributes, a folder's its names. */
static bool is_synced_by(const struct record *record, const struct record *sync, enum crash_order order)
{
        if (record->kind != RECORD_WRITE && order == CRASH_ORDERED)
                return true;
        if (!is_name(record->kind))
                return record->ino == sync->ino;
        return S_ISDIR(sync->mode) &&
               is_in(record->kind == RECORD_RENAME ? record->to : record->path, sync->path);
}

static bool is_synced(const struct record *records, size_t at, const struct crash_plan *plan)
{
        for (size_t i = at + 1; i < plan->cut; i++)
                if (records[i].kind == RECORD_SYNC && is_synced_by(&records[at], &records[i], plan->order))
                        return true;
        return false;
}

/* ---- what happens ---- */

static void apply_write(struct disk *disk, const struct record *record, bool certain)
{
        struct inode *inode = inode_of(disk, record->ino);
        size_t done = 0;

        while (done < record->len) {
                size_t n = SECTOR - (record->offset + done) % SECTOR;
                if (n > record->len - done)
                        n = record->len - done;
                if (certain || keeps(disk))
                        put_sector(inode, record->data + done, n, record->offset + done);
                done += n;
        }
        if (disk->keeps_length && record->offset + record->len > inode->size)
                set_size(inode, record->offset + record->len);
}

static void apply(struct disk *disk, const struct record *record)
{
        struct inode *inode;

        switch (record->kind) {
        case RECORD_CREATE:
        case RECORD_FOLDER:
                add_name(disk, record->path, record->ino, record->kind == RECORD_FOLDER);
                break;
        case RECORD_RENAME:
                drop_name(disk, record->path);
                add_name(disk, record->to, record->ino, false);
                break;
        case RECORD_UNLINK:
                drop_name(disk, record->path);
                break;
        case RECORD_LENGTH:
                set_size(inode_of(disk, record->ino), record->offset);
                break;
        case RECORD_ATTRIBUTES:
                inode = inode_of(disk, record->ino);
                inode->mode = record->mode;
                inode->mtime = record->mtime;
                break;
        case RECORD_WRITE:
        case RECORD_SYNC:
                break;
        }
}

static void replay(struct disk *disk, const struct record *records, const struct crash_plan *plan)
{
        for (size_t i = 0; i < plan->cut; i++) {
                bool certain = plan->order == CRASH_EXACT || is_synced(records, i, plan) ||
                               (plan->order == CRASH_LOOSE && records[i].kind == RECORD_FOLDER);
                if (records[i].kind == RECORD_WRITE)
                        apply_write(disk, &records[i], certain);
                else if (certain || (plan->order == CRASH_ORDERED ? i < disk->journal : keeps(disk)))
                        apply(disk, &records[i]);
        }
}

/* ---- into a folder ---- */

/* What lies in a folder that is not there is not there either. */
static void write_file(const struct disk *disk, const struct name *name, int folder)
{
        static const struct inode nothing = { .mode = 0600, .mtime.tv_sec = 1000 };
        const struct inode *inode = &nothing;
        int fd = openat(folder, name->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        if (fd < 0)
                return;
        for (size_t i = 0; i < disk->n_inodes; i++)
                if (disk->inodes[i].ino == name->ino)
                        inode = &disk->inodes[i];
        check(write(fd, inode->data, inode->size) == (ssize_t)inode->size);
        check(fchmod(fd, inode->mode & 07777) == 0);
        check(futimens(fd, (struct timespec[2]){ inode->mtime, inode->mtime }) == 0);
        close(fd);
}

static int by_path(const void *a, const void *b)
{
        return strcmp(((const struct name *)a)->path, ((const struct name *)b)->path);
}

static void write_disk(struct disk *disk, const char *folder)
{
        int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        check(fd >= 0);
        qsort(disk->names, disk->n_names, sizeof(*disk->names), by_path);
        for (size_t i = 0; i < disk->n_names; i++)
                if (disk->names[i].folder)
                        (void)mkdirat(fd, disk->names[i].path, 0700);
        for (size_t i = 0; i < disk->n_names; i++)
                if (!disk->names[i].folder)
                        write_file(disk, &disk->names[i], fd);
        close(fd);
        for (size_t i = 0; i < disk->n_inodes; i++)
                free(disk->inodes[i].data);
}

void crash_make(const struct record *records, const struct crash_plan *plan, const char *folder)
{
        static const uint32_t kept[] = { 0, FRACTION / 2, FRACTION * 9 / 10, FRACTION * 99 / 100, FRACTION };
        static struct disk disk;

        disk = (struct disk){ .random = plan->seed };
        disk.keeps = kept[next_random(&disk) % (sizeof(kept) / sizeof(*kept))];
        disk.journal = plan->cut > 0 ? next_random(&disk) % (plan->cut + 1) : 0;
        disk.keeps_length = plan->order == CRASH_LOOSE && next_random(&disk) % 2 == 0;
        replay(&disk, records, plan);
        write_disk(&disk, folder);
}
