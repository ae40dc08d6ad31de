/*
 * What is kept of contents by their hash (T7): for whom, and until when.
 */
#include <string.h>

#include "base/pieces.h"
#include "server/tree_private.h"

#define NOTED_MAX 65536 /* contents that lost a row in one update; beyond it all details are looked at */

static bool is_tiny(const struct tree_row *row)
{
        return row->kind == ENTRY_FILE && row->stamp.size <= ENTRY_TINY_MAX;
}

size_t tree_row_detail_len(const struct tree_row *row)
{
        uint64_t size = row->stamp.size;

        if (is_tiny(row))
                return (size_t)size;
        return row->kind == ENTRY_FILE && size > PIECE_BYTES
                       ? (size_t)pieces_count(size) * hash_len(row->hash)
                       : 0;
}

/* ---- pruning ---- */

void tree_details_note(struct tree_details *details, const struct tree_row *row)
{
        if (tree_row_detail_len(row) == 0 || details->too_many)
                return;
        if (details->n == details->capacity) {
                size_t capacity = details->capacity ? details->capacity * 2 : 64;
                uint8_t(*items)[HASH_BYTES] = NULL;

                if (capacity <= NOTED_MAX)
                        items = reallocarray(details->items, capacity, sizeof(*items));
                if (!items) {
                        details->too_many = true;
                        return;
                }
                details->items = items;
                details->capacity = capacity;
        }
        memcpy(details->items[details->n++], row->digest, HASH_BYTES);
}

int tree_details_prune(const struct tree_details *details, struct tree_db *db)
{
        int r = details->too_many ? tree_db_sweep_details(db) : 0;

        for (size_t i = 0; r == 0 && !details->too_many && i < details->n; i++)
                r = tree_db_drop_detail(db, details->items[i]);
        return r;
}

void tree_details_release(struct tree_details *details)
{
        free(details->items);
        *details = (struct tree_details){ 0 };
}

/* ---- reading ---- */

int tree_view_detail(struct tree_view *view, const struct content_id *id, uint64_t size, struct buffer *ret)
{
        return tree_db_get_detail(view->db, id, size, ret);
}

int tree_give_data(struct tree_db *db, const struct tree_row *row, struct buffer *data, struct entry *entry)
{
        const struct content_id id = tree_row_content(row);
        int r;

        if (!is_tiny(row) || row->unknown || row->stamp.size == 0)
                return 0;
        r = tree_db_get_detail(db, &id, row->stamp.size, data);
        if (r == TREE_OK)
                entry->data = (const uint8_t *)data->data;
        return r < 0 ? r : 0;
}
