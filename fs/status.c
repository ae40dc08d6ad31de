#include "fs/status.h"

#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "cache/pieces.h"
#include "fs/filesystem.h"
#include "fs/passthrough.h"
#include "fs/takeover.h"
#include "sync/learned.h"
#include "sync/readahead.h"
#include "sync/siblings.h"

/* Some of the store's contents, sorted: one walk of the store instead of a look for every file of a large tree. */
struct contents {
        struct content_id *ids; /* owned */
        size_t count, capacity;
};

struct cached_count {
        struct store *store;
        struct contents blobs, parts;
        uint64_t files, bytes;
};

static int add_content(const struct content_id *id, void *arg)
{
        struct contents *c = arg;

        if (c->count == c->capacity) {
                size_t capacity = MAX(c->capacity * 2, (size_t)256);
                struct content_id *ids = reallocarray(c->ids, capacity, sizeof(*ids));
                if (!ids)
                        return -ENOMEM;
                c->ids = ids;
                c->capacity = capacity;
        }
        c->ids[c->count++] = *id;
        return 0;
}

static int add_blob(const struct content_id *id, uint64_t size, void *arg)
{
        return add_content(id, arg);
}

static int compare_contents(const void *a, const void *b)
{
        const struct content_id *x = a, *y = b;

        if (x->algorithm != y->algorithm)
                return x->algorithm < y->algorithm ? -1 : 1;
        return memcmp(x->bytes, y->bytes, sizeof(x->bytes));
}

static void sort(struct contents *c)
{
        if (c->count > 0)
                qsort(c->ids, c->count, sizeof(*c->ids), compare_contents);
}

static bool has(const struct contents *c, const struct content_id *id)
{
        return c->count > 0 && bsearch(id, c->ids, c->count, sizeof(*c->ids), compare_contents);
}

/* How much of FILE's content is here, if not all of it is. */
static uint64_t bytes_of_pieces(struct store *store, const struct catalog_entry *file)
{
        struct store_pieces *pieces;
        uint64_t bytes;

        if (!hash_by_pieces(file->content.algorithm) ||
            store_pieces_open(store, &file->content, file->size, false, &pieces) != STORE_OK)
                return 0;
        bytes = store_pieces_present(pieces);
        store_pieces_unref(pieces);
        return bytes;
}

static int count_cached(const struct catalog_entry *file, void *arg)
{
        struct cached_count *c = arg;

        if (file->tiny || has(&c->blobs, &file->content)) {
                c->files++;
                c->bytes += file->size;
        } else if (has(&c->parts, &file->content)) {
                c->bytes += bytes_of_pieces(c->store, file);
        }
        return 0;
}

/* The parts first: what becomes a blob meanwhile is found among those. */
static void get_cached(struct filesystem *fs, struct cached_count *ret)
{
        ret->store = fs->store;
        fetch_settle(fs->fetch);
        store_list_parts(fs->store, add_content, &ret->parts);
        store_list(fs->store, add_blob, &ret->blobs);
        sort(&ret->parts);
        sort(&ret->blobs);
        catalog_each_file(fs->catalog, count_cached, ret);
        free(TAKE_PTR(ret->parts.ids));
        free(TAKE_PTR(ret->blobs.ids));
}

unsigned status_cached_percent(const struct filesystem *fs, const struct catalog_entry *entry)
{
        /* In this order: what is in memory leaves it for the store. */
        if (entry->kind != ENTRY_FILE || entry->size == 0 || entry->tiny ||
            fetch_holds(fs->fetch, &entry->content) || store_has(fs->store, &entry->content))
                return 100;
        /* Not 100 although all of its pieces are marked: it is no blob yet. */
        return (unsigned)MIN((double)bytes_of_pieces(fs->store, entry) * 100 / (double)entry->size, 99.0);
}

static uint64_t resident_bytes(void)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        unsigned long pages = 0;

        if (io_read_file(-1, "/proc/self/statm", 4096, &text) < 0 ||
            sscanf(text.data, "%*u %lu", &pages) != 1)
                return 0;
        return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

const char *status_state_name(struct filesystem *fs)
{
        if (fs->options.offline || !session_is_online(fs->session))
                return "offline";
        return session_get_dialect(fs->session) == SESSION_STOCK ? "stock" : "online";
}

static const char *master_state(const struct master_health *health)
{
        static const char *const names[] = { "unknown", "well", "away" };

        return health->state == MASTER_AWAY && !masters_is_away(health->error) ? "refused"
                                                                               : names[health->state];
}

/* All of SOURCE's masters, in its order. */
static json_t *masters_json(struct filesystem *fs)
{
        struct session_master masters[SOURCE_MASTERS_MAX];
        size_t n = session_get_masters(fs->session, masters);
        json_t *list = json_array();

        for (size_t i = 0; i < n; i++) {
                const struct master_health *health = &masters[i].health;
                int64_t since_ns = health->since_ns ? clock_monotonic_ns() - health->since_ns : 0;
                json_t *one = json_pack("{s:s, s:b, s:s, s:f}", "address", masters[i].address, "used",
                                        health->used, "state", master_state(health), "since_seconds",
                                        (double)since_ns / (double)NSEC_PER_SEC);

                if (health->error < 0)
                        json_object_set_new(one, "error",
                                            json_string(failure_text(&masters[i].why, health->error)));
                json_array_append_new(list, one);
        }
        return list;
}

json_t *status_path_json(const char *path)
{
        _cleanup_free_ char *copy = strdup(path);

        if (copy && !path_is_utf8(copy, strlen(copy)))
                for (char *p = copy; *p; p++)
                        if (*p & 0x80)
                                *p = '?';
        return copy ? json_string(copy) : NULL;
}

static int set_number(json_t *object, const char *key, uint64_t value)
{
        return json_object_set_new(object, key, json_integer((json_int_t)value));
}

json_t *status_version_json(struct filesystem *fs)
{
        struct catalog_version version;
        char hex[2 * HASH_BYTES + 1];

        catalog_get_version(fs->catalog, &version);
        hex_encode(version.digest, hash_len(version.hash), hex);
        return json_pack("{s:s, s:I, s:I}", "version", hex, "revision", (json_int_t)version.revision,
                         "generation", (json_int_t)version.generation);
}

json_t *status_progress_json(struct filesystem *fs)
{
        struct syncer_stats synced;
        const struct progress_view *p = &synced.progress;
        char line[160];

        syncer_get_stats(fs->syncer, &synced);
        progress_format(p, line, sizeof(line));
        return json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:s}", "phase", progress_phase_name(p->phase),
                         "entries", (json_int_t)p->entries, "total_entries", (json_int_t)p->total_entries,
                         "bytes", (json_int_t)p->bytes, "total_bytes", (json_int_t)p->total_bytes,
                         "elapsed_seconds", (double)p->elapsed_ns / (double)NSEC_PER_SEC, "text", line);
}

static int set_prefetch(json_t *status, struct filesystem *fs)
{
        struct readahead_stats ahead = { 0 };
        struct siblings_stats siblings = { 0 };
        struct learned_stats learned = { 0 };
        int r = 0;

        if (fs->readahead)
                readahead_get_stats(fs->readahead, &ahead);
        if (fs->siblings)
                siblings_get_stats(fs->siblings, &siblings);
        if (fs->learned)
                learned_get_stats(fs->learned, &learned);
        r |= set_number(status, "prefetched_files", ahead.files);
        r |= set_number(status, "prefetched_bytes", ahead.bytes);
        r |= set_number(status, "prefetch_hits", ahead.hits);
        r |= set_number(status, "prefetch_wasted", ahead.wasted);
        r |= set_number(status, "sibling_files", siblings.files);
        r |= set_number(status, "sibling_bytes", siblings.bytes);
        r |= set_number(status, "learned_files", learned.files);
        r |= set_number(status, "learned_fetched", learned.fetched);
        r |= set_number(status, "learned_hits", learned.hits);
        r |= set_number(status, "learned_joined", learned.joined);
        r |= set_number(status, "learned_wasted", learned.wasted);
        return r;
}

json_t *status_brief_json(struct filesystem *fs)
{
        struct catalog_version version;
        struct fetch_stats fetched;
        struct syncer_stats synced;
        struct store_usage used;
        json_t *status = status_version_json(fs);
        int r = 0;

        if (!status)
                return NULL;
        catalog_get_version(fs->catalog, &version);
        fetch_get_stats(fs->fetch, &fetched);
        syncer_get_stats(fs->syncer, &synced);
        store_get_usage(fs->store, &used);
        r |= json_object_set_new(status, "source", json_string(fs->source.text));
        r |= json_object_set_new(status, "target", status_path_json(fs->target));
        r |= json_object_set_new(status, "state", json_string(status_state_name(fs)));
        r |= json_object_set_new(status, "online",
                                 json_boolean(!fs->options.offline && session_is_online(fs->session)));
        r |= json_object_set_new(status, "masters", masters_json(fs));
        r |= json_object_set_new(status, "loading", json_boolean(version.loading));
        r |= json_object_set_new(status, "progress", status_progress_json(fs));
        r |= json_object_set_new(status, "hash", json_string(hash_algorithm_name(version.hash)));
        r |= set_number(status, "entries", version.files + version.directories + version.symlinks);
        r |= set_number(status, "files", version.files);
        r |= set_number(status, "directories", version.directories);
        r |= set_number(status, "symlinks", version.symlinks);
        r |= set_number(status, "unknown", version.unknown);
        r |= set_number(status, "bytes", version.bytes);
        r |= set_number(status, "fetched_files", fetched.files + synced.fetched_files);
        r |= set_number(status, "fetched_bytes", fetched.bytes + synced.fetched_bytes);
        r |= set_number(status, "adopted_bytes", fetched.adopted_bytes);
        r |= set_number(status, "failed_reads", fetched.failures);
        r |= set_prefetch(status, fs);
        r |= set_number(status, "hits", atomic_load(&fs->hits));
        r |= set_number(status, "misses", atomic_load(&fs->misses));
        r |= set_number(status, "syncs", synced.syncs);
        r |= set_number(status, "pushes", synced.pushes);
        r |= json_object_set_new(status, "watching", json_boolean(synced.watching));
        r |= set_number(status, "full_scans", synced.full_scans);
        r |= set_number(status, "full_listings", synced.full_listings);
        r |= set_number(status, "resumed", synced.resumed);
        r |= set_number(status, "delta_entries", synced.delta_entries);
        r |= set_number(status, "last_sync", (uint64_t)version.synced_at);
        r |= json_object_set_new(status, "cache_dir", status_path_json(fs->options.cache_dir));
        r |= set_number(status, "quota_bytes", used.quota);
        r |= set_number(status, "store_bytes", used.bytes);
        r |= set_number(status, "rss_bytes", resident_bytes());
        r |= set_number(status, "pid", (uint64_t)getpid());
        r |= set_number(status, "hangs", atomic_load(&fs->takeover->page->hangs));
        r |= set_number(status, "restarts", atomic_load(&fs->takeover->page->restarts));
        r |= set_number(status, "upgrades", atomic_load(&fs->takeover->page->upgrades));
        r |= set_number(status, "failed_upgrades", atomic_load(&fs->takeover->page->failed_upgrades));
        r |= json_object_set_new(status, "passthrough", json_boolean(fs->passthrough != NULL));
        r |= set_number(status, "passthrough_opens", passthrough_opens(fs->passthrough));
        r |= json_object_set_new(status, "features", feature_json(&fs->features));
        if (r != 0) {
                json_decref(status);
                return NULL;
        }
        return status;
}

json_t *status_json(struct filesystem *fs)
{
        struct cached_count cached = { 0 };
        json_t *status = status_brief_json(fs);

        if (!status)
                return NULL;
        get_cached(fs, &cached);
        if (set_number(status, "cached_files", cached.files) != 0 ||
            set_number(status, "cached_bytes", cached.bytes) != 0) {
                json_decref(status);
                return NULL;
        }
        return status;
}

const char *status_kind_name(enum entry_kind kind)
{
        return kind == ENTRY_FILE ? "file" : kind == ENTRY_DIRECTORY ? "directory" : "symlink";
}

json_t *status_entry_json(struct filesystem *fs, uint64_t ino)
{
        struct catalog_entry entry;
        char hash[HASH_TEXT_MAX];

        if (catalog_get(fs->catalog, ino, &entry) != CATALOG_OK)
                return NULL;
        return json_pack("{s:I, s:s, s:s, s:I, s:i, s:o}", "inode", (json_int_t)ino, "kind",
                         status_kind_name(entry.kind), "hash", content_id_format(&entry.content, hash),
                         "size", (json_int_t)entry.size, "cached", (int)status_cached_percent(fs, &entry),
                         "cache_dir", status_path_json(fs->options.cache_dir));
}
