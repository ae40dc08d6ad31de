#include "sync/incoming.h"

#include <string.h>

#include "base/clock.h"
#include "base/path.h"
#include "base/pieces.h"

/* A path from the wire as the log may show it: cut, and safe even if it holds a NUL. */
static int refuse(struct failure *failure, const char *path, size_t len, const char *why)
{
        return failure_set(failure, -EPROTO, "the master's listing is refused: entry '%.*s': %s",
                           (int)MIN(len, 200u), path, why);
}

static int read_time(const Grpc__FileInfo *info, struct entry *e, struct failure *failure)
{
        if (info->mod_time < -ENTRY_MTIME_SEC_MAX || info->mod_time > ENTRY_MTIME_SEC_MAX ||
            info->mtime_nsec >= NSEC_PER_SEC)
                return refuse(failure, e->path, e->path_len, "its time is beyond all sense");
        e->mtime_ns = info->mod_time * NSEC_PER_SEC + info->mtime_nsec;
        return 0;
}

static int check_path(const struct entry *e, struct failure *failure)
{
        int r = path_check(e->path, e->path_len);

        if (r == -ENAMETOOLONG)
                return refuse(failure, e->path, e->path_len, "its name or path is too long");
        if (r < 0)
                return refuse(failure, e->path, e->path_len,
                              "its path would lead out of the workspace or is malformed");
        return 0;
}

/* A tiny file's bytes: all of them, or none. Whether they are the right ones the catalog finds out. */
static int read_data(const Grpc__FileInfo *info, struct entry *e, struct failure *failure)
{
        if (info->content.len == 0)
                return 0;
        if (info->content.len != e->size || e->size > ENTRY_TINY_MAX)
                return refuse(failure, e->path, e->path_len, "its bytes are not as many as its size says");
        e->data = info->content.data;
        return 0;
}

static int read_own_content(enum hash_algorithm base, const Grpc__FileInfo *info, struct entry *e,
                            struct failure *failure)
{
        if (info->file_size < 0 || (uint64_t)info->file_size > ENTRY_SIZE_MAX)
                return refuse(failure, e->path, e->path_len, "its size is beyond all sense");
        e->size = e->kind == ENTRY_FILE ? (uint64_t)info->file_size : 0;
        if (e->kind == ENTRY_SYMLINK) {
                e->target = (const char *)info->link_target.data;
                e->target_len = e->size = info->link_target.len;
                return 0;
        }
        if (e->kind != ENTRY_FILE || e->unknown)
                return 0;
        e->content.algorithm = content_algorithm(base, e->size);
        if (info->hash_algorithm != e->content.algorithm ||
            info->digest.len != hash_len(e->content.algorithm))
                return refuse(failure, e->path, e->path_len, "its hash is missing or of an unknown kind");
        hash_take(e->content.bytes, info->digest.data, info->digest.len);
        return read_data(info, e, failure);
}

int incoming_read_own(enum hash_algorithm base, const Grpc__FileInfo *info, struct entry *ret,
                      struct failure *failure)
{
        struct entry e = { .path = info->path,
                           .path_len = strlen(info->path),
                           .unknown = info->unknown,
                           .gone = info->gone,
                           .whole = info->whole };
        enum entry_kind go_kind = ENTRY_FILE;
        int r;

        if (info->raw_path.len > 0) {
                e.path = (const char *)info->raw_path.data;
                e.path_len = info->raw_path.len;
        }
        r = check_path(&e, failure);
        if (r < 0)
                return r;
        if (e.gone) {
                *ret = e;
                return 0;
        }
        if (info->kind > ENTRY_SYMLINK)
                return refuse(failure, e.path, e.path_len, "it is of a kind that this worker does not know");
        e.kind = (enum entry_kind)info->kind;
        if (e.kind == ENTRY_UNKNOWN) {
                e.unknown = true;
                *ret = e;
                return 0;
        }
        r = entry_from_go_mode(info->mode, &go_kind, &e.mode);
        if (r < 0 || go_kind != e.kind)
                return refuse(failure, e.path, e.path_len, "its mode and kind contradict each other");
        r = read_time(info, &e, failure);
        if (r < 0)
                return r;
        r = read_own_content(base, info, &e, failure);
        if (r < 0)
                return r;
        *ret = e;
        return 0;
}

int incoming_read_stock(const Grpc__FileInfo *info, struct entry *ret, struct failure *failure)
{
        struct entry e = { .path = info->path, .path_len = strlen(info->path) };
        enum entry_kind go_kind;
        int r;

        if (strcmp(info->path, ".") == 0)
                e.path_len = 0;
        r = check_path(&e, failure);
        if (r < 0)
                return r;
        if (entry_from_go_mode(info->mode, &go_kind, &e.mode) < 0)
                return refuse(failure, e.path, e.path_len, "its mode is of a device, fifo or socket");
        if ((go_kind == ENTRY_DIRECTORY) != (info->is_dir != 0))
                return refuse(failure, e.path, e.path_len, "its mode and kind contradict each other");
        /* A stock master shows a link as the file it leads to, maybe with the link's mode. */
        e.kind = info->is_dir ? ENTRY_DIRECTORY : ENTRY_FILE;
        if (e.kind == ENTRY_FILE && (info->file_size < 0 || (uint64_t)info->file_size > ENTRY_SIZE_MAX))
                return refuse(failure, e.path, e.path_len, "its size is beyond all sense");
        e.size = e.kind == ENTRY_FILE ? (uint64_t)info->file_size : 0;
        r = read_time(info, &e, failure);
        if (r < 0)
                return r;
        if (e.kind == ENTRY_FILE) {
                e.content.algorithm = HASH_MD5;
                if (hex_decode(info->hash, strlen(info->hash), e.content.bytes, HASH_MD5_BYTES) < 0)
                        return refuse(failure, e.path, e.path_len, "its hash is not an MD5 in hex");
        }
        *ret = e;
        return 0;
}

#define BLOCK_BYTES (1u << 20)

struct text_block {
        struct text_block *next;
        size_t used;
        char bytes[];
};

struct incoming {
        struct entry *entries; /* owned; their paths, targets and data lie in blocks */
        size_t count, capacity;
        struct text_block *blocks; /* owned */
        uint64_t bytes;
};

int incoming_new(struct incoming **ret)
{
        *ret = calloc(1, sizeof(**ret));
        return *ret ? 0 : -ENOMEM;
}

void incoming_free(struct incoming *incoming)
{
        if (!incoming)
                return;
        while (incoming->blocks) {
                struct text_block *next = incoming->blocks->next;
                free(incoming->blocks);
                incoming->blocks = next;
        }
        free(incoming->entries);
        free(incoming);
}

static void *keep_text(struct incoming *l, const void *text, size_t len)
{
        char *kept;

        if (!l->blocks || l->blocks->used + len > BLOCK_BYTES) {
                struct text_block *block = malloc(sizeof(*block) + BLOCK_BYTES);
                if (!block)
                        return NULL;
                block->next = l->blocks;
                block->used = 0;
                l->blocks = block;
        }
        kept = l->blocks->bytes + l->blocks->used;
        if (len > 0)
                memcpy(kept, text, len);
        l->blocks->used += len;
        return kept;
}

int incoming_add(struct incoming *incoming, const struct entry *entry)
{
        size_t data_len = entry->data ? entry->size : 0;
        struct entry copy = *entry;

        incoming->bytes += sizeof(copy) + entry->path_len + entry->target_len + data_len;
        if (incoming->bytes > INCOMING_BYTES_MAX)
                return -EFBIG;
        if (incoming->count == incoming->capacity) {
                size_t capacity = MAX(incoming->capacity * 2, (size_t)1024);
                struct entry *grown = reallocarray(incoming->entries, capacity, sizeof(*grown));
                if (!grown)
                        return -ENOMEM;
                incoming->entries = grown;
                incoming->capacity = capacity;
        }
        copy.path = keep_text(incoming, entry->path, entry->path_len);
        copy.target = keep_text(incoming, entry->target, entry->target_len);
        copy.data = data_len > 0 ? keep_text(incoming, entry->data, data_len) : NULL;
        if (!copy.path || !copy.target || (data_len > 0 && !copy.data))
                return -ENOMEM;
        incoming->entries[incoming->count++] = copy;
        return 0;
}

void incoming_get(const struct incoming *incoming, const struct entry **ret, size_t *ret_count)
{
        *ret = incoming->entries;
        *ret_count = incoming->count;
}

int incoming_each(struct incoming *incoming, int (*each)(const struct entry *entry, void *arg), void *arg)
{
        int r = 0;

        for (size_t i = 0; i < incoming->count && r == 0; i++)
                r = each(&incoming->entries[i], arg);
        return r;
}

static int compare_entries(const void *a, const void *b)
{
        const struct entry *x = a, *y = b;

        return path_compare(x->path, x->path_len, y->path, y->path_len);
}

int incoming_each_sorted(struct incoming *incoming, int (*each)(const struct entry *entry, void *arg),
                         void *arg)
{
        static const struct entry root = { .path = "", .kind = ENTRY_DIRECTORY, .mode = 0755 };
        int r = 0;

        if (incoming->count > 0)
                qsort(incoming->entries, incoming->count, sizeof(*incoming->entries), compare_entries);
        if (incoming->count == 0 || incoming->entries[0].path_len > 0)
                r = each(&root, arg);
        return r == 0 ? incoming_each(incoming, each, arg) : r;
}
