#include "cache/catalog.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>

#include "base/io.h"
#include "base/log.h"
#include "cache/catalog_private.h"

#define SLOTS_MAX     64 /* mounts of one source at the same time */
#define SLOT_NAME_MAX 64
#define CHECK_ROWS_MAX                                                                                       \
        50000u /* up to here all of a database is looked at when it is opened (5 ms), beyond, each page when it is read */

static const char *slot_name(unsigned number, const char *suffix, char name[SLOT_NAME_MAX])
{
        snprintf(name, SLOT_NAME_MAX, "slot%u%s", number, suffix);
        return name;
}

/* For catalog_collect. */
static void note_use(const struct catalog_slot *slot)
{
        (void)futimens(slot->lock_fd, NULL);
}

void catalog_slot_release(struct catalog_slot *slot)
{
        note_use(slot);
        cleanup_close(&slot->lock_fd);
        cleanup_close(&slot->dir_fd);
        free(slot->dir);
        free(slot->path);
        *slot = (struct catalog_slot){ .dir_fd = -1, .lock_fd = -1 };
}

/* The source in plain text, for the operator who looks into the folder. The slot's lock is held. */
static int write_source(struct catalog_slot *slot, const char *source)
{
        char name[SLOT_NAME_MAX];
        _cleanup_close_ int fd = -1;
        int r;

        if (faccessat(slot->dir_fd, "source", F_OK, 0) == 0)
                return 0;
        slot_name(slot->number, ".source", name);
        fd = openat(slot->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = io_write_all(fd, source, strlen(source));
        if (r == 0)
                r = io_write_all(fd, "\n", 1);
        if (r == 0 && renameat(slot->dir_fd, name, slot->dir_fd, "source") < 0)
                r = -errno;
        if (r < 0)
                unlinkat(slot->dir_fd, name, 0);
        return r;
}

static int lock_slot(struct catalog_slot *slot)
{
        char name[SLOT_NAME_MAX];

        for (unsigned n = 0; n < SLOTS_MAX; n++) {
                _cleanup_close_ int fd = openat(slot->dir_fd, slot_name(n, ".lock", name),
                                                O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
                if (fd < 0)
                        return -errno;
                if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
                        slot->lock_fd = take_fd(&fd);
                        slot->number = n;
                        return 0;
                }
                if (errno != EWOULDBLOCK && errno != EINTR)
                        return -errno;
        }
        return -EBUSY;
}

static int open_source_folder(const char *dir, const char *source, struct catalog_slot *slot)
{
        _cleanup_free_ char *path = NULL;
        int r;

        if (asprintf(&path, "%s/catalogs/%016" PRIx64, dir, hash_xxh3_64(source, strlen(source))) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        r = io_mkdir_parents(path, 0700);
        if (r < 0)
                return r;
        slot->dir = realpath(path, NULL);
        if (!slot->dir)
                return -errno;
        slot->dir_fd = open(slot->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return slot->dir_fd < 0 ? -errno : 0;
}

static int inherit_lock(struct catalog_slot *slot, const struct catalog_claim *claim)
{
        slot->number = claim->slot;
        slot->lock_fd = fcntl(claim->lock_fd, F_DUPFD_CLOEXEC, 0);
        return slot->lock_fd < 0 ? -errno : 0;
}

/* CLAIM: NULL, or of who had it before. */
static int take_slot(const char *dir, const char *source, const struct catalog_claim *claim,
                     struct catalog_slot *ret)
{
        struct catalog_slot slot = { .dir_fd = -1, .lock_fd = -1 };
        int r = open_source_folder(dir, source, &slot);

        if (r == 0)
                r = claim ? inherit_lock(&slot, claim) : lock_slot(&slot);
        if (r == 0)
                note_use(&slot);
        if (r == 0)
                r = write_source(&slot, source);
        if (r == 0 && asprintf(&slot.path, "%s/slot%u.db", slot.dir, slot.number) < 0) {
                slot.path = NULL;
                r = -ENOMEM;
        }
        if (r < 0) {
                catalog_slot_release(&slot);
                return r;
        }
        *ret = slot;
        return 0;
}

int catalog_slot_take(const char *dir, const char *source, struct catalog_slot *ret)
{
        return take_slot(dir, source, NULL, ret);
}

int catalog_slot_inherit(const char *dir, const char *source, const struct catalog_claim *claim,
                         struct catalog_slot *ret)
{
        return take_slot(dir, source, claim, ret);
}

void catalog_slot_suspect(struct catalog_slot *slot)
{
        char name[SLOT_NAME_MAX];
        _cleanup_close_ int fd = openat(slot->dir_fd, slot_name(slot->number, ".suspect", name),
                                        O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

        log_warning("catalog '%s' is damaged%s", slot->path,
                    fd < 0 ? "" : ": it will be moved aside and begun anew at the next mount");
}

static bool is_suspect(const struct catalog_slot *slot)
{
        char name[SLOT_NAME_MAX];

        return faccessat(slot->dir_fd, slot_name(slot->number, ".suspect", name), F_OK, 0) == 0;
}

/* Renames the slot's files, for who wants to find out what is wrong with them, or if not KEEP removes them. */
static int put_away(const struct catalog_slot *slot, bool keep)
{
        static const char *const suffixes[] = { ".db-wal", ".db-shm", ".db" };
        char name[SLOT_NAME_MAX], aside[SLOT_NAME_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
                int r;
                slot_name(slot->number, suffixes[i], name);
                snprintf(aside, sizeof(aside), "slot%u%s.damaged", slot->number, suffixes[i]);
                r = keep ? renameat(slot->dir_fd, name, slot->dir_fd, aside)
                         : unlinkat(slot->dir_fd, name, 0);
                if (r < 0 && errno != ENOENT)
                        return -errno;
        }
        unlinkat(slot->dir_fd, slot_name(slot->number, ".suspect", name), 0);
        return 0;
}

/* C3: nobody reads what was retired any more. The look at the version and the root is the check of the structure. */
static int clean_up(struct db *db, struct db_version *ret_version)
{
        struct db_row root;
        int r = db_begin(db);

        if (r == 0)
                r = db_delete_retired(db);
        if (r == 0)
                r = db_read_version(db, ret_version);
        if (r == 0 && ret_version->shown.valid)
                r = db_get(db, CATALOG_ROOT_INO, &root);
        if (r == CATALOG_NONE)
                r = -EBADMSG;
        if (r == 0)
                r = db_commit(db);
        if (r < 0)
                db_rollback(db);
        else if (db_log_pages(db) >= LOG_PAGES)
                r = db_truncate_log(db);
        return r;
}

static int open_database(const struct catalog_slot *slot, struct db **ret, struct db_version *ret_version)
{
        struct db *db;
        int r = db_open_writer(slot->path, &db);

        if (r < 0)
                return r;
        r = clean_up(db, ret_version);
        if (r == 0 && ret_version->rows <= CHECK_ROWS_MAX)
                r = db_check(db);
        if (r < 0) {
                db_close(db);
                return r;
        }
        *ret = db;
        return 0;
}

static int slot_version(const char *path, struct db_version *ret)
{
        struct db *db;
        int r = db_open_reader(path, &db);

        if (r < 0)
                return r;
        r = db_read_version(db, ret);
        db_close(db);
        return r;
}

/* C6: what another mount of this source knows spares this one the transfer of the whole listing. */
static int copy_newest(const struct catalog_slot *slot, struct db *db, struct db_version *version)
{
        _cleanup_free_ char *newest = NULL;
        int64_t newest_at = -1;

        for (unsigned n = 0; n < SLOTS_MAX; n++) {
                _cleanup_free_ char *path = NULL;
                struct db_version other;

                if (n == slot->number)
                        continue;
                if (asprintf(&path, "%s/slot%u.db", slot->dir, n) < 0) {
                        path = NULL;
                        return -ENOMEM;
                }
                if (access(path, F_OK) < 0 || slot_version(path, &other) < 0)
                        continue; /* not there, or its owner's to repair */
                if (!other.shown.valid || other.shown.loading || other.shown.synced_at <= newest_at)
                        continue;
                newest_at = other.shown.synced_at;
                free(newest);
                newest = TAKE_PTR(path);
        }
        if (!newest)
                return 0;
        int r = db_copy(db, newest);
        return r < 0 ? r : clean_up(db, version);
}

/* The empty DB becomes a copy, if there is anything to copy. Of a damaged one nothing is wanted, and to begin it anew is its owner's. */
static int begin_as_copy(const struct catalog_slot *slot, struct db **db, struct db_version *version)
{
        int r = copy_newest(slot, *db, version);

        if (r == 0)
                return 0;
        db_close(TAKE_PTR(*db));
        if (r != -EBADMSG)
                return r;
        log_warning("the newest catalog beside '%s' is damaged: nothing is copied from it", slot->path);
        r = put_away(slot, false);
        return r < 0 ? r : open_database(slot, db, version);
}

int catalog_slot_open(struct catalog_slot *slot, struct db **ret_writer, struct db_version *ret_version)
{
        struct db_version version;
        struct db *db = NULL;
        int r = is_suspect(slot) ? -EBADMSG : open_database(slot, &db, &version);

        if (r == -EBADMSG || r == -EPROTONOSUPPORT || r == -ESTALE) {
                log_warning("catalog '%s' %s, beginning anew", slot->path,
                            r == -EBADMSG  ? "is damaged: moved aside"
                            : r == -ESTALE ? "was written by an older version of this program: removed"
                                           : "was written by a newer version of this program: moved aside");
                r = put_away(slot, r != -ESTALE);
                if (r == 0)
                        r = open_database(slot, &db, &version);
        }
        if (r < 0)
                return r;
        if (!version.shown.valid && !version.shown.loading)
                r = begin_as_copy(slot, &db, &version);
        if (r < 0)
                return r;
        *ret_writer = db;
        *ret_version = version;
        return 0;
}

int catalog_slot_reopen(struct catalog_slot *slot, struct db **ret_writer, struct db_version *ret_version)
{
        struct db *db;
        int r = is_suspect(slot) ? -EBADMSG : db_open_writer(slot->path, &db);

        if (r < 0)
                return r;
        r = db_read_version(db, ret_version);
        if (r < 0)
                db_close(db);
        else
                *ret_writer = db;
        return r;
}
