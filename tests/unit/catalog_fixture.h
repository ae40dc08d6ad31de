/*
 * What the tests of the catalog share: a catalog in a folder of its own, versions made from a few words, and looks at them.
 */
#pragma once

#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/unit.h"
#include <sqlite3.h>

#include "base/io.h"
#include "base/log.h"
#include "cache/catalog.h"
#include "tests/tempdir.h"

#define SOURCE  "master:/spider"
#define SKIPPED 77 /* exit code of a child that could not run its test */

struct fixture {
        char dir[64];
        struct catalog *catalog;
};

static inline int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        strcpy(f->dir, "/tmp/test_catalog.XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
        *state = f;
        return 0;
}

static inline int tear_down(void **state)
{
        struct fixture *f = *state;

        catalog_free(f->catalog);
        tempdir_remove(f->dir);
        free(f);
        return 0;
}

static inline void reopen(struct fixture *f)
{
        catalog_free(TAKE_PTR(f->catalog));
        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
}

/* ---- making versions ---- */

static inline struct content_id content_of(uint64_t number)
{
        struct content_id id = { .algorithm = HASH_XXH3 };

        hash_bytes(HASH_XXH3, &number, sizeof(number), id.bytes);
        return id;
}

static inline struct entry folder(const char *path)
{
        return (struct entry){ .path = path,
                               .path_len = strlen(path),
                               .kind = ENTRY_DIRECTORY,
                               .mode = 0755,
                               .mtime_ns = 1000 };
}

/* All that is in it and below follows. */
static inline struct entry whole(const char *path)
{
        struct entry entry = folder(path);

        entry.whole = true;
        return entry;
}

static inline struct entry gone(const char *path)
{
        return (struct entry){ .path = path, .path_len = strlen(path), .gone = true };
}

static inline struct entry file(const char *path, uint64_t content)
{
        return (struct entry){ .path = path,
                               .path_len = strlen(path),
                               .kind = ENTRY_FILE,
                               .mode = 0644,
                               .mtime_ns = 2000,
                               .size = content,
                               .content = content_of(content) };
}

static inline struct entry link_to(const char *path, const char *target)
{
        return (struct entry){ .path = path,
                               .path_len = strlen(path),
                               .kind = ENTRY_SYMLINK,
                               .mode = 0777,
                               .mtime_ns = 3000,
                               .size = strlen(target),
                               .target = target,
                               .target_len = strlen(target) };
}

static inline struct entry unknown(enum entry_kind kind, const char *path)
{
        return (struct entry){
                .path = path, .path_len = strlen(path), .kind = kind, .unknown = true, .mode = 0600, .size = 5
        };
}

static inline struct catalog_update *begin(struct catalog *catalog)
{
        struct catalog_update *update;

        assert_int_equal(catalog_update_begin(catalog, &update), 0);
        return update;
}

static inline void put(struct catalog_update *update, struct entry entry)
{
        assert_int_equal(catalog_update_put(update, &entry), 0);
}

static inline void commit(struct catalog_update *update, struct catalog_changes *ret)
{
        struct catalog_changes changes;

        assert_int_equal(catalog_update_commit(update, NULL, 7, &changes), CATALOG_OK);
        if (ret)
                *ret = changes;
        else
                catalog_changes_release(&changes);
}

/* One version in full: the entries given, the root put before them. */
#define VERSION(catalog, ret, ...)                                                                           \
        do {                                                                                                 \
                const struct entry entries_[] = { whole(""), ##__VA_ARGS__ };                                \
                make_version(catalog, entries_, ARRAY_SIZE(entries_), ret);                                  \
        } while (0)

/* What differs from the version before. */
#define DIFFERENCE(catalog, ret, ...)                                                                        \
        do {                                                                                                 \
                const struct entry entries_[] = { __VA_ARGS__ };                                             \
                make_version(catalog, entries_, ARRAY_SIZE(entries_), ret);                                  \
        } while (0)

static inline void make_version(struct catalog *catalog, const struct entry *entries, size_t n,
                                struct catalog_changes *ret)
{
        struct catalog_update *update = begin(catalog);

        catalog_update_set_hash(update, HASH_XXH3);
        for (size_t i = 0; i < n; i++)
                put(update, entries[i]);
        commit(update, ret);
}

static inline struct catalog_version version_of(struct catalog *catalog)
{
        struct catalog_version version;

        catalog_get_version(catalog, &version);
        return version;
}

/* ---- looking ---- */

static inline int find(struct catalog *catalog, const char *path, struct catalog_entry *ret)
{
        size_t len = strlen(path), name_len;
        const char *name;
        int r = catalog_get(catalog, CATALOG_ROOT_INO, ret);

        while (r == CATALOG_OK && path_next(&path, &len, &name, &name_len))
                r = catalog_lookup(catalog, ret->ino, name, name_len, ret);
        return r;
}

static inline uint64_t ino_of(struct catalog *catalog, const char *path)
{
        struct catalog_entry entry;

        assert_int_equal(find(catalog, path, &entry), CATALOG_OK);
        return entry.ino;
}

static inline bool is_there(struct catalog *catalog, const char *path)
{
        struct catalog_entry entry;
        int r = find(catalog, path, &entry);

        assert_true(r == CATALOG_OK || r == CATALOG_NONE);
        return r == CATALOG_OK;
}

struct names {
        struct buffer text; /* "name,name," */
        uint64_t last_cookie;
        size_t limit;
        size_t count;
        bool current;
};

static inline int add_name(const struct catalog_entry *entry, uint64_t cookie, bool current, void *arg)
{
        struct names *names = arg;

        assert_true(cookie > 0 && cookie <= INT64_MAX);
        assert_int_equal(strlen(entry->name), entry->name_len);
        buffer_printf(&names->text, "%s,", entry->name);
        names->last_cookie = cookie;
        names->current = current;
        return ++names->count == names->limit;
}

static inline void assert_lists(struct catalog *catalog, uint64_t parent, uint64_t cookie,
                                const char *expected)
{
        struct names names = { 0 };

        assert_int_equal(catalog_list(catalog, parent, cookie, add_name, &names), 0);
        assert_string_equal(names.text.data ? names.text.data : "", expected);
        buffer_release(&names.text);
}

static inline size_t count_op(const struct catalog_changes *changes, enum catalog_change_op op)
{
        size_t n = 0;

        for (size_t i = 0; i < changes->count; i++)
                n += changes->items[i].op == op;
        return n;
}

static inline bool has_change(const struct catalog_changes *changes, enum catalog_change_op op, uint64_t ino)
{
        for (size_t i = 0; i < changes->count; i++)
                if (changes->items[i].op == op && changes->items[i].ino == ino)
                        return true;
        return false;
}

/* ---- behind the catalog's back ---- */

static inline void slot_path(const struct fixture *f, const char *suffix, char path[256])
{
        snprintf(path, 256, "%s/catalogs/%016llx/slot0%s", f->dir,
                 (unsigned long long)hash_xxh3_64(SOURCE, strlen(SOURCE)), suffix);
}

/* Closing moves the log into the database, which the catalog itself leaves for later. */
static inline void set_pragma(const struct fixture *f, const char *sql)
{
        char path[256];
        sqlite3 *sqlite;

        slot_path(f, ".db", path);
        assert_int_equal(sqlite3_open_v2(path, &sqlite, SQLITE_OPEN_READWRITE, "fsyncfs-catalog"), SQLITE_OK);
        assert_int_equal(sqlite3_exec(sqlite, sql, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(sqlite);
}

/* Nothing stays in the log. */
static inline void checkpoint(const struct fixture *f)
{
        set_pragma(f, "PRAGMA wal_checkpoint(TRUNCATE)");
}
