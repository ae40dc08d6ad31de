/*
 * A catalog's database as hostile input, as damage or another hand may leave it: opened, looked at in every way, given a new version. An input that begins
 * with 'S' is SQL that is run on it before; any other changes bytes of its file (folder.h).
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <sqlite3.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "base/log.h"
#include "cache/catalog.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/folder.h"
#include "tests/tempdir.h"

#define SOURCE "master:/spider"
#define LEVELS 6
#define LISTED 200 /* entries of a folder that are looked at */

static char good[128], dir[128], slot[256];
static bool was_valid;

static int put(struct catalog_update *update, const char *path, enum entry_kind kind, const char *data)
{
        struct entry entry = {
                .path = path, .path_len = strlen(path), .kind = kind, .mode = 0755, .mtime_ns = 1000
        };

        if (kind == ENTRY_SYMLINK) {
                entry.target = data;
                entry.size = entry.target_len = strlen(data);
        } else if (kind == ENTRY_FILE) {
                entry.size = data ? strlen(data) : 1000000;
                entry.data = (const uint8_t *)data;
                entry.content.algorithm = data ? HASH_XXH3 : HASH_XXH3_PIECES;
                hash_bytes(HASH_XXH3, data ? data : path, strlen(data ? data : path), entry.content.bytes);
        }
        entry.whole = kind == ENTRY_DIRECTORY;
        return catalog_update_put(update, &entry);
}

/* A new version; true if it could be made. */
static bool commit(struct catalog *catalog, const char *tiny)
{
        struct catalog_changes changes;
        struct catalog_update *update;

        if (catalog_update_begin(catalog, &update) < 0)
                return false;
        if (put(update, "", ENTRY_DIRECTORY, NULL) < 0 || put(update, "a", ENTRY_DIRECTORY, NULL) < 0 ||
            put(update, "a/b", ENTRY_DIRECTORY, NULL) < 0 || put(update, "a/b/tiny", ENTRY_FILE, tiny) < 0 ||
            put(update, "a/link", ENTRY_SYMLINK, "b/tiny") < 0 ||
            put(update, "large", ENTRY_FILE, NULL) < 0) {
                catalog_update_abort(update);
                return false;
        }
        if (catalog_update_commit(update, NULL, 7, &changes) != CATALOG_OK)
                return false;
        catalog_changes_release(&changes);
        return true;
}

/* What lies in the database's log goes into its file first. */
static void run_sql(const char *path, const uint8_t *data, size_t len)
{
        char *text = strndup((const char *)data, len);
        sqlite3 *db = NULL;

        assert(text && sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                                       "fsyncfs-catalog") == SQLITE_OK);
        sqlite3_exec(db, "PRAGMA journal_mode=DELETE; PRAGMA ignore_check_constraints=1", NULL, NULL, NULL);
        sqlite3_exec(db, text, NULL, NULL, NULL);
        sqlite3_close(db);
        free(text);
}

static void make_good(void)
{
        const char *folder = folder_new();
        struct catalog *catalog;
        char path[300];

        log_setup("fuzz", LOG_LEVEL_ERROR);
        snprintf(dir, sizeof(dir), "%s/cache", folder);
        snprintf(good, sizeof(good), "%s/good.db", folder);
        assert(catalog_open(dir, SOURCE, &catalog) == 0);
        assert(commit(catalog, "tiny") && commit(catalog, "another"));
        catalog_free(catalog);
        snprintf(slot, sizeof(slot), "%s/catalogs/%016lx", dir,
                 (unsigned long)hash_xxh3_64(SOURCE, strlen(SOURCE)));
        snprintf(path, sizeof(path), "%s/slot0.db", slot);
        run_sql(path, (const uint8_t *)"", 0);
        assert(rename(path, good) == 0);
}

/* ---- looking at it ---- */

struct look {
        struct catalog *catalog;
        unsigned level, listed;
};

static int look_at(const struct catalog_entry *entry, uint64_t cookie, bool current, void *arg);

static void look_into(struct catalog *catalog, uint64_t ino, unsigned level)
{
        struct look look = { .catalog = catalog, .level = level };

        if (level < LEVELS)
                (void)catalog_list(catalog, ino, 0, look_at, &look);
}

static void look_up(struct catalog *catalog, const struct catalog_entry *entry)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        uint8_t tiny[ENTRY_TINY_MAX], digest[HASH_BYTES];
        struct content_id old;
        size_t len;

        assert(entry->name_len <= PATH_NAME_MAX && entry->name[entry->name_len] == '\0');
        assert(entry->mode <= 07777 && entry->kind != ENTRY_UNKNOWN);
        (void)catalog_path(catalog, entry->ino, &text);
        (void)catalog_readlink(catalog, entry->ino, &text);
        (void)catalog_cookie(catalog, entry->ino);
        (void)catalog_get_previous(catalog, &entry->content, &old);
        if (entry->kind == ENTRY_FILE && catalog_get_tiny(catalog, entry, tiny, &len) == CATALOG_OK) {
                assert(len == entry->size);
                hash_bytes(HASH_XXH3, tiny, len, digest);
                assert(len == 0 || memcmp(digest, entry->content.bytes, HASH_BYTES) == 0); /* C9 */
        }
}

static int look_at(const struct catalog_entry *entry, uint64_t cookie, bool current, void *arg)
{
        struct look *look = arg;

        (void)current;
        assert((int64_t)cookie > 0);
        assert(path_check_name(entry->name, entry->name_len) == 0);
        look_up(look->catalog, entry);
        return ++look->listed >= LISTED;
}

static int count(const struct catalog_entry *file, void *arg)
{
        (void)file;
        return ++*(unsigned *)arg >= LISTED;
}

static void look_around(struct catalog *catalog)
{
        static const char *const paths[] = { "a", "a/b/tiny", "large", "nothing/there" };
        struct catalog_version version;
        struct catalog_entry entry;
        unsigned counted = 0;

        catalog_get_version(catalog, &version);
        for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
                if (catalog_find_path(catalog, paths[i], strlen(paths[i]), &entry) == CATALOG_OK)
                        look_up(catalog, &entry);
        for (uint64_t ino = 0; ino < 12; ino++) {
                if (catalog_get(catalog, ino, &entry) == CATALOG_OK)
                        look_up(catalog, &entry);
                if (catalog_lookup(catalog, ino, "b", 1, &entry) == CATALOG_OK)
                        look_up(catalog, &entry);
                look_into(catalog, ino, 0);
        }
        (void)catalog_each_file(catalog, count, &counted);
}

void fuzz_one(const uint8_t *data, size_t len)
{
        struct catalog_version version;
        struct catalog *catalog;
        char path[300];

        if (!good[0]) {
                make_good();
                fuzz_one((const uint8_t *)"C", 1);
                assert(was_valid); /* the undamaged one is read, so damaged ones are as well */
        }
        if (len == 0)
                return;
        tempdir_remove(slot);
        (void)mkdir(slot, 0700);
        snprintf(path, sizeof(path), "%s/slot0.db", slot);
        folder_copy_damaged(good, path, data + 1, data[0] == 'S' ? 0 : len - 1);
        if (data[0] == 'S')
                run_sql(path, data + 1, len - 1);
        if (catalog_open(dir, SOURCE, &catalog) < 0)
                return;
        catalog_get_version(catalog, &version);
        was_valid = version.valid;
        look_around(catalog);
        (void)commit(catalog, "third");
        look_around(catalog);
        catalog_free(catalog);
}
