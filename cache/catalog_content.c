#include "cache/catalog.h"

#include <string.h>

#include "base/log.h"
#include "cache/catalog_private.h"

static bool is_content(const struct content_id *id, const void *data, size_t len)
{
        return hash_proves(id->algorithm, data, len, id->bytes);
}

void catalog_row_data(const struct db_row *row, const struct entry *entry, const void **ret, size_t *ret_len)
{
        const struct catalog_entry *e = &row->entry;

        *ret = NULL;
        *ret_len = 0;
        if (e->kind == ENTRY_SYMLINK) {
                *ret = entry->target;
                *ret_len = entry->target_len;
        } else if (e->kind == ENTRY_FILE && entry->data && !row->unknown && e->size > 0 &&
                   e->size <= ENTRY_TINY_MAX) {
                if (!is_content(&e->content, entry->data, e->size)) {
                        log_limited(LOG_LEVEL_WARNING, "tiny",
                                    "the bytes that came with '%.*s' are not its own: it is fetched when it "
                                    "is read",
                                    (int)MIN(entry->path_len, (size_t)200), entry->path);
                        return;
                }
                *ret = entry->data;
                *ret_len = e->size;
        }
}

/* C9 */
static int verify(const struct catalog_entry *entry, const struct buffer *kept)
{
        if (kept->len == entry->size && is_content(&entry->content, kept->data, kept->len))
                return CATALOG_OK;
        log_limited(LOG_LEVEL_WARNING, "tiny",
                    "the catalog's bytes of '%s' are damaged: it is fetched instead", entry->name);
        return CATALOG_NONE;
}

int catalog_get_tiny(struct catalog *catalog, const struct catalog_entry *entry, uint8_t *data,
                     size_t *ret_len)
{
        _cleanup_buffer_ struct buffer kept = { 0 };
        struct catalog_reader *reader;
        int r;

        if (entry->kind != ENTRY_FILE || entry->size > ENTRY_TINY_MAX)
                return CATALOG_NONE;
        if (entry->size > 0) {
                r = catalog_reader_take(catalog, &reader);
                if (r < 0)
                        return r;
                r = catalog_reader_give(catalog, reader, db_data(reader->db, entry->ino, ENTRY_FILE, &kept));
                if (r == CATALOG_OK)
                        r = verify(entry, &kept);
                if (r != CATALOG_OK)
                        return r;
                memcpy(data, kept.data, kept.len);
        }
        *ret_len = kept.len;
        return CATALOG_OK;
}

int catalog_get_previous(struct catalog *catalog, const struct content_id *content, struct content_id *ret)
{
        struct catalog_reader *reader;
        int r;

        if (!hash_by_pieces(content->algorithm))
                return CATALOG_NONE;
        r = catalog_reader_take(catalog, &reader);
        if (r < 0)
                return r;
        return catalog_reader_give(catalog, reader, db_previous(reader->db, content, ret));
}
