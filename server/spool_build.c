#include "server/spool_private.h"

#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "proto/pack.h"
#include "server/file_info.h"
#include "server/metrics.h"

#define ZSTD_LEVEL 1 /* more saves one byte in a thousand: what there is are digests */

/* Lives on the job's stack. */
struct builder {
        struct spool *spool;
        struct pack_writer *writer; /* NULL: no packs */
        struct buffer plain; /* AUTO, as long as it is open, and PLAIN: what came since the last frame */
        size_t plain_entries;
        struct buffer packed;
        bool open; /* AUTO: it may yet be few entries or many */
        uint8_t root_digest[HASH_BYTES];
        size_t root_digest_len;
};

static int write_frame(struct builder *b, const struct buffer *data, size_t entries, bool last)
{
        struct spool *spool = b->spool;
        int r;

        if (pool_cancelled(spools_pool(spool->owner)))
                return -ECANCELED;
        r = io_write_all(spool->fd, data->data, data->len);
        return r < 0 ? r : spool_publish(spool, data->len, entries, last);
}

static int flush_plain(struct builder *b, bool last)
{
        int r = b->plain.len > 0 ? write_frame(b, &b->plain, b->plain_entries, last) : 0;

        buffer_truncate(&b->plain, 0);
        b->plain_entries = 0;
        return r;
}

static int flush_pack(struct builder *b, bool last)
{
        size_t count = pack_writer_count(b->writer);
        int r;

        if (count == 0)
                return 0;
        buffer_truncate(&b->packed, 0);
        r = pack_writer_finish(b->writer, ZSTD_LEVEL, &b->packed);
        return r < 0 ? r : write_frame(b, &b->packed, count, last);
}

static bool plain_is_full(const struct builder *b)
{
        return b->plain_entries == SPOOL_PLAIN_ENTRIES || b->plain.len >= SPOOL_PLAIN_BYTES;
}

/* There are too many entries for a plain frame: packs it is, and what came so far is in the first one already. */
static void close_plain(struct builder *b)
{
        buffer_release(&b->plain);
        b->plain_entries = 0;
        b->open = false;
        spool_decide(b->spool, false, b->root_digest, b->root_digest_len);
}

static int put_plain(struct builder *b, const struct entry *entry)
{
        int r = 0;

        if (plain_is_full(b) && b->open) {
                close_plain(b);
                return 0;
        }
        if (plain_is_full(b))
                r = flush_plain(b, false);
        if (r >= 0)
                r = file_info_append(&b->plain, entry);
        b->plain_entries++;
        return r;
}

static int put_entry(const struct entry *entry, void *arg)
{
        struct builder *b = arg;
        int r = 0;

        if (b->open || !b->writer)
                r = put_plain(b, entry);
        if (r < 0 || !b->writer)
                return r;
        if (pack_writer_full(b->writer))
                r = flush_pack(b, false);
        return r < 0 ? r : pack_writer_add(b->writer, entry);
}

static int finish(struct builder *b)
{
        if (b->open)
                spool_decide(b->spool, true, b->root_digest, b->root_digest_len);
        return b->open || !b->writer ? flush_plain(b, true) : flush_pack(b, true);
}

/* ---- what is listed ---- */

/* The cursor gives the folder itself, then its children, then what is below those. */
static int put_all(struct builder *b, const struct tree_row *row, bool children)
{
        struct tree_cursor *cursor;
        const struct entry *entry;
        int r = tree_cursor_new(b->spool->view, row, &cursor);

        if (r < 0)
                return r;
        for (;;) {
                struct entry copy;
                r = tree_cursor_next(cursor, &entry, NULL);
                if (r < 0 || !entry || (children && memchr(entry->path, '/', entry->path_len)))
                        break;
                copy = *entry;
                copy.whole = entry->path_len == 0;
                if (children && copy.whole)
                        continue;
                r = put_entry(&copy, b);
                if (r < 0)
                        break;
        }
        tree_cursor_free(cursor);
        return r;
}

static int put_changes(struct builder *b, const struct tree_row *row)
{
        struct spool *spool = b->spool;
        int r = tree_view_changes(spool->view, row, spool->state.base,
                                  spool->has_base_digest ? spool->base_digest : NULL, UINT64_MAX, put_entry,
                                  b);

        return r == TREE_TOO_OLD ? -ESTALE : r > 0 ? -EIO : r;
}

static int put_listing(struct builder *b)
{
        struct spool *spool = b->spool;
        struct tree_row row;
        int r = tree_view_find(spool->view, spool->path, strlen(spool->path), &row);

        if (r < 0)
                return r;
        if (r != TREE_OK || row.kind != ENTRY_DIRECTORY)
                return -ENOENT;
        tree_row_root_digest(&row, b->root_digest);
        b->root_digest_len = hash_len(row.hash);
        if (!b->open)
                spool_decide(spool, !b->writer, b->root_digest, b->root_digest_len);
        return spool->state.base > 0 ? put_changes(b, &row) : put_all(b, &row, spool->form == SPOOL_CHILDREN);
}

/* ---- the job ---- */

static int build(struct builder *b)
{
        struct spool *spool = b->spool;
        int r = io_open_nameless(spools_dir(spool->owner));

        if (r < 0)
                return r;
        spool->fd = r;
        b->open = spool->form == SPOOL_AUTO;
        r = spool->form == SPOOL_PLAIN ? 0 : pack_writer_new(&b->writer);
        if (r >= 0)
                r = put_listing(b);
        return r < 0 ? r : finish(b);
}

static void tell(const struct spool *spool, const struct builder *b, int error, int64_t began_ns)
{
        long long ms = (clock_monotonic_ns() - began_ns) / NSEC_PER_MSEC;

        if (error < 0 && error != -ESTALE && error != -ENOENT && error != -ECANCELED) {
                log_limited(LOG_LEVEL_WARNING, "spool", "%s: entries could not be gathered for workers: %s",
                            spool->spider, strerror(-error));
        } else if (error >= 0 && b->writer && !b->open && spool->state.base == 0 &&
                   spool->form != SPOOL_CHILDREN) {
                metrics_add(METRIC_SNAPSHOTS_BUILT, 1);
                log_info("%s%s%s: snapshot of revision %llu built: %llu entries, %llu bytes, %lld ms",
                         spool->spider, spool->path[0] ? "/" : "", spool->path,
                         (unsigned long long)spool->state.revision, (unsigned long long)spool->entries,
                         (unsigned long long)spool->state.bytes, ms);
        }
}

void spool_build(struct pool_job *job)
{
        struct spool *spool = (struct spool *)((char *)job - offsetof(struct spool, job.job));
        struct builder b = { .spool = spool };
        int64_t began_ns = clock_monotonic_ns();
        int r = build(&b);

        tree_view_put(TAKE_PTR(spool->view));
        tell(spool, &b, r, began_ns);
        spool_end(spool, r);
        pack_writer_free(b.writer);
        buffer_release(&b.plain);
        buffer_release(&b.packed);
        spool_put(spool);
}
