/*
 * All catalogs of a cache folder, looked at from beside the mounts: whether each page bears its hash, SQLite finds its structure sound, and the entries
 * still add up to the digest of the version. One that a mount uses is read as any reader would, and left to its mount.
 */
#include <string.h>

#include "base/log.h"
#include "cache/catalog_folder.h"
#include "cache/catalog_private.h"
#include "cache/catalogs.h"

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
        struct db *db;
        int r;

        if (damaged)
                return catalog_folder_remove(path);
        r = db_open_writer(path, &db);
        if (r < 0)
                return r;
        r = db_truncate_log(db);
        db_close(db);
        return r;
}

static int verify_one(const char *path, void *arg)
{
        struct verify_run *run = arg;
        _cleanup_close_ int lock = -1;
        int r = catalog_folder_lock(path, &lock);
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

int catalog_verify_all(const char *dir, bool repair, catalog_verify_fn hear, void *arg,
                       struct catalog_verified *ret)
{
        struct verify_run run = { .repair = repair, .hear = hear, .arg = arg };
        int r = catalog_folder_each(dir, "slot*.db", verify_one, &run);

        if (r == 0)
                *ret = run.result;
        return r;
}
