#include "cache/catalog.h"

#include <string.h>

#include "cache/catalog_private.h"

void catalog_digest_add(struct hasher *h, const struct db_row *row)
{
        const struct catalog_entry *e = &row->entry;
        struct entry_digest_input input = {
                .name = e->name,
                .name_len = e->name_len,
                .kind = e->kind,
                .mode = e->mode,
                .mtime_ns = e->mtime_ns,
                .size = e->size,
                .unknown = row->unknown,
                .algorithm = e->kind == ENTRY_FILE ? e->content.algorithm : hash_of_len(row->hash_len),
                .digest = e->content.bytes,
        };

        entry_digest_add(h, &input);
}

static int add_child(const struct db_row *row, void *arg)
{
        catalog_digest_add(arg, row);
        return 0;
}

int catalog_folder_digest(struct db *db, uint64_t ino, struct hasher *h, uint8_t ret[HASH_BYTES])
{
        const struct db_list list = { .parent = ino, .after = "", .generation = DB_LIVE };
        struct content_id digest;
        int r;

        hasher_reset(h);
        r = db_list(db, &list, add_child, h);
        if (r < 0)
                return r;
        hasher_final(h, &digest);
        memcpy(ret, digest.bytes, HASH_BYTES);
        return 0;
}

int catalog_tree_digest(struct db *db, enum hash_algorithm base, uint8_t ret[HASH_BYTES])
{
        struct db_row root;
        int r = db_get(db, CATALOG_ROOT_INO, &root);

        if (r != CATALOG_OK)
                return r < 0 ? r : -EBADMSG;
        entry_root_digest(base, root.entry.mode, root.entry.mtime_ns, root.entry.content.bytes, ret);
        return 0;
}

struct check {
        struct db *db;
        struct hasher *hasher;
};

static int check_folder(const struct db_row *row, void *arg)
{
        struct check *check = arg;
        uint8_t digest[HASH_BYTES];
        int r;

        if (row->entry.kind != ENTRY_DIRECTORY || row->entry.pending)
                return 0;
        r = catalog_folder_digest(check->db, row->entry.ino, check->hasher, digest);
        if (r < 0)
                return r;
        return memcmp(digest, row->entry.content.bytes, HASH_BYTES) == 0 ? 0 : CATALOG_MISMATCH;
}

/*
 * Every folder's digest is compared with one made from its children's rows, digests of subfolders included. If all fit, so
 * does, from the leaves up, the root's: no need to go through the tree in order. What is pending was never shown.
 */
int catalog_check_rows(struct db *db, const struct db_version *version)
{
        _cleanup_hasher_ struct hasher *hasher = NULL;
        struct check check = { .db = db };
        uint8_t digest[HASH_BYTES];
        int r = hasher_new(version->shown.hash, &hasher);

        check.hasher = hasher;
        if (r == 0)
                r = db_each_live(db, check_folder, &check);
        if (r == 0)
                r = catalog_tree_digest(db, version->shown.hash, digest);
        if (r == 0 && memcmp(digest, version->shown.digest, HASH_BYTES) != 0)
                r = CATALOG_MISMATCH;
        return r;
}

int catalog_check_digest(struct catalog *catalog)
{
        struct catalog_reader *reader;
        struct db_version version;
        int r = catalog_reader_take(catalog, &reader);

        if (r < 0)
                return r;
        r = db_read_version(reader->db, &version);
        if (r == 0 && version.shown.valid)
                r = catalog_check_rows(reader->db, &version);
        return catalog_reader_give(catalog, reader, r);
}
