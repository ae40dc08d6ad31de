/*
 * All catalogs of a cache folder, looked at from beside the mounts: whether each page bears its hash, SQLite finds its structure sound, and the entries
 * still add up to the digest of the version. One that a mount uses is read as any reader would, and left to its mount.
 */
#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/file.h>

#include "base/log.h"
#include "cache/catalog_private.h"

struct verify_run {
        bool repair;
        catalog_verify_fn hear;
        void *arg;
        struct catalog_verified result;
};

static int check_rows(struct db *db)
{
        struct db_version version;
        int r = db_begin(db);

        if (r == 0)
                r = db_check(db);
        if (r == 0)
                r = db_read_version(db, &version);
        if (r == 0 && version.shown.valid)
                r = catalog_check_rows(db, &version);
        return r == CATALOG_MISMATCH ? -EBADMSG : r;
}

static int check_file(const char *path)
{
        struct db *db;
        int r = db_open_reader(path, &db);

        if (r < 0)
                return r;
        r = check_rows(db);
        db_close(db);
        return r;
}

/* What is left in the log goes into the database, so that all of it bears hashes; or all of it goes. Its lock is held. */
static int mend(const char *path, bool damaged)
{
        static const char *const suffixes[] = { "", "-wal", "-shm" };
        struct db *db;
        int r;

        if (!damaged) {
                r = db_open_writer(path, &db);
                if (r < 0)
                        return r;
                r = db_truncate_log(db);
                db_close(db);
                return r;
        }
        for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
                _cleanup_free_ char *name = NULL;
                if (asprintf(&name, "%s%s", path, suffixes[i]) < 0) {
                        name = NULL;
                        return -ENOMEM;
                }
                if (unlink(name) < 0 && errno != ENOENT)
                        return -errno;
        }
        return 0;
}

/* The lock of the slot that PATH, ".../slotN.db", belongs to: -EWOULDBLOCK if a mount has it. */
static int lock_of(const char *path, int *ret_fd)
{
        _cleanup_free_ char *name = NULL;
        _cleanup_close_ int fd = -1;

        if (asprintf(&name, "%.*s.lock", (int)(strlen(path) - strlen(".db")), path) < 0) {
                name = NULL;
                return -ENOMEM;
        }
        fd = open(name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
                return -errno;
        *ret_fd = take_fd(&fd);
        return 0;
}

static int verify_one(struct verify_run *run, const char *path)
{
        _cleanup_close_ int lock = -1;
        int r = lock_of(path, &lock);
        bool in_use = r == -EWOULDBLOCK, damaged, mended = false;

        if (r < 0 && !in_use)
                return r;
        r = check_file(path);
        damaged = r == -EBADMSG;
        if (r < 0 && !damaged && r != -ESTALE &&
            r != -EPROTONOSUPPORT) /* another build's: not ours to judge */
                return r;
        if (run->repair && !in_use && (r == 0 || damaged)) {
                r = mend(path, damaged);
                if (r < 0)
                        return r;
                mended = damaged;
        }
        run->result.catalogs++;
        run->result.damaged += damaged;
        run->result.removed += mended;
        if (damaged && run->hear)
                run->hear(path, mended, run->arg);
        return 0;
}

/* Calls EACH with the path of every name in folder DIR that IS_ONE knows; no such folder is no error. */
static int each_path(struct verify_run *run, const char *dir, int (*is_one)(const struct dirent *entry),
                     int (*each)(struct verify_run *run, const char *path))
{
        struct dirent **names;
        int n = scandir(dir, &names, is_one, alphasort), r = 0;

        if (n < 0)
                return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *path = NULL;
                if (r == 0 && asprintf(&path, "%s/%s", dir, names[i]->d_name) < 0) {
                        path = NULL;
                        r = -ENOMEM;
                }
                if (r == 0)
                        r = each(run, path);
                free(names[i]);
        }
        free(names);
        return r;
}

static int is_source(const struct dirent *entry)
{
        return entry->d_name[0] != '.';
}

static int is_database(const struct dirent *entry)
{
        return fnmatch("slot*.db", entry->d_name, 0) == 0;
}

static int verify_source(struct verify_run *run, const char *path)
{
        return each_path(run, path, is_database, verify_one);
}

int catalog_verify_all(const char *dir, bool repair, catalog_verify_fn hear, void *arg,
                       struct catalog_verified *ret)
{
        struct verify_run run = { .repair = repair, .hear = hear, .arg = arg };
        _cleanup_free_ char *catalogs = NULL;
        int r;

        if (asprintf(&catalogs, "%s/catalogs", dir) < 0) {
                catalogs = NULL;
                return -ENOMEM;
        }
        r = each_path(&run, catalogs, is_source, verify_source);
        if (r == 0)
                *ret = run.result;
        return r;
}
