#include <string.h>

#include "base/log.h"
#include "base/pieces.h"
#include "fs/read_private.h"

/*
 * Reads of a large content of which not all is here. What is here is read from the store at once, what is missing is wanted, all pieces together; the
 * reply is put together from both without copying what came.
 */

/* The part of a read that lies in one piece. */
struct slice {
        uint64_t index;
        size_t at;     /* within the read */
        size_t offset; /* within the piece */
        size_t len;
};

/* The bytes that are to be had of SIZE at OFFSET. */
static size_t read_len(const struct fetch_large *large, size_t size, off_t offset)
{
        uint64_t total = fetch_large_size(large);

        return (uint64_t)offset >= total ? 0 : (size_t)MIN((uint64_t)size, total - (uint64_t)offset);
}

static unsigned count_slices(size_t len, off_t offset)
{
        return len == 0 ? 0
                        : (unsigned)(((uint64_t)offset + len - 1) / PIECE_BYTES -
                                     (uint64_t)offset / PIECE_BYTES + 1);
}

static struct slice get_slice(size_t len, off_t offset, unsigned i)
{
        uint64_t index = (uint64_t)offset / PIECE_BYTES + i;
        uint64_t begin = MAX((uint64_t)offset, index * PIECE_BYTES);
        uint64_t end = MIN((uint64_t)offset + len, (index + 1) * PIECE_BYTES);

        return (struct slice){ .index = index,
                               .at = (size_t)(begin - (uint64_t)offset),
                               .offset = (size_t)(begin - index * PIECE_BYTES),
                               .len = (size_t)(end - begin) };
}

unsigned read_waits_max(size_t size)
{
        return (unsigned)(size / PIECE_BYTES) + 2;
}

/* LEN bytes at OFFSET from the store: 0, or negative errno, logged: they should be there. */
static int read_store(struct fetch_large *large, void *data, size_t len, uint64_t offset)
{
        ssize_t n = store_pieces_read(fetch_large_pieces(large), data, len, offset);

        if (n >= 0 && (size_t)n == len)
                return 0;
        if (n >= 0 || n == -ENODATA)
                return -ENODATA;
        log_limited(LOG_LEVEL_ERROR, "read", "cannot read the cache: %s", strerror((int)-n));
        return -EIO;
}

bool read_pieces_here(const struct fetch_large *large, size_t size, off_t offset)
{
        size_t len = read_len(large, size, offset);

        for (unsigned i = 0; i < count_slices(len, offset); i++)
                if (store_pieces_state(fetch_large_pieces(large), get_slice(len, offset, i).index) !=
                    PIECE_HERE)
                        return false;
        return true;
}

bool read_pieces_now(fuse_req_t req, struct filesystem *fs, struct fetch_large *large, size_t size,
                     off_t offset)
{
        size_t len = read_len(large, size, offset);
        _cleanup_free_ char *data = malloc(MAX(len, (size_t)1));
        int r = data ? read_store(large, data, len, (uint64_t)offset) : -ENOMEM;

        if (r == -ENODATA)
                return false;
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                fuse_reply_buf(req, data, len);
        return true;
}

/* SLICE from the store to its place: 0, or as read_store. */
static int copy_slice(struct pending *p, const struct slice *slice)
{
        if (!p->data)
                p->data = malloc(p->size);
        return p->data ? read_store(p->large, p->data + slice->at, slice->len,
                                    slice->index * PIECE_BYTES + slice->offset)
                       : -ENOMEM;
}

static void want_slice(struct pending *p, struct read_wait *w, const struct slice *slice)
{
        int r;

        if (store_pieces_state(fetch_large_pieces(p->large), slice->index) == PIECE_HERE) {
                w->copied = copy_slice(p, slice) == 0;
                if (w->copied)
                        return;
        }
        atomic_fetch_add(&p->left, 1);
        w->waiter.done = read_wait_done;
        r = fetch_want_piece(p->fs->fetch, p->large, slice->index, &w->waiter);
        if (r < 0)
                read_end_wait(p, r);
}

void read_pieces_begin(struct pending *p)
{
        size_t len = read_len(p->large, p->size, p->offset);

        for (unsigned i = 0; i < count_slices(len, p->offset); i++) {
                struct slice slice = get_slice(len, p->offset, i);

                want_slice(p, &p->waits[i], &slice);
        }
}

int read_pieces_gather(struct pending *p)
{
        size_t len = read_len(p->large, p->size, p->offset);
        int r = 0;

        for (unsigned i = 0; r == 0 && i < count_slices(len, p->offset); i++) {
                struct slice slice = get_slice(len, p->offset, i);
                struct read_wait *w = &p->waits[i];

                if (!w->content && !w->copied)
                        r = copy_slice(p, &slice);
        }
        return r;
}

void read_pieces_reply(struct pending *p)
{
        size_t len = read_len(p->large, p->size, p->offset);
        unsigned n = count_slices(len, p->offset);
        _cleanup_free_ struct iovec *parts = calloc(n + 1, sizeof(*parts));

        for (unsigned i = 0; parts && i < n; i++) {
                const struct fetch_content *content = p->waits[i].content;
                struct slice slice = get_slice(len, p->offset, i);

                parts[i].iov_base = content ? (char *)content->data + slice.offset : p->data + slice.at;
                parts[i].iov_len = slice.len;
        }
        if (parts)
                fuse_reply_iov(p->req, parts, (int)n);
        else
                fuse_reply_err(p->req, ENOMEM);
}
