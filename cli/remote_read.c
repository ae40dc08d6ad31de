#include "cli/remote_private.h"

#include <string.h>

#define READ_BYTES   (256u << 10)
#define PIECES_AHEAD 64u /* of a large content: 16 MiB on their way */
#define TRIES_MAX    3   /* how often it is fetched again because it was gone before it was read */

typedef int (*sink_fn)(const void *data, size_t len, void *arg);

/* ---- waiting ---- */

static void wait_done(struct fetch_waiter *waiter, int error)
{
        struct remote_wait *w = (struct remote_wait *)waiter;
        struct remote *r = w->remote;

        if (error == 0 && waiter->content)
                w->content = fetch_content_ref(waiter->content);
        mutex_lock(&r->lock);
        w->error = error;
        w->over = true;
        condition_broadcast(&r->came);
        mutex_unlock(&r->lock);
}

static void prepare(struct remote *remote, enum fetch_class class, struct remote_wait *wait)
{
        *wait = (struct remote_wait){ .waiter = { .done = wait_done, .class = class },
                                      .remote = remote,
                                      .begun = true };
}

/* ERROR of beginning: WAIT's `done` will not be called. */
static int note_begun(struct remote_wait *wait, int error)
{
        if (error < 0) {
                wait->error = error;
                wait->over = true;
        }
        return error;
}

int remote_begin(struct remote *remote, const struct catalog_entry *entry, enum fetch_class class, bool local,
                 struct remote_wait *wait)
{
        prepare(remote, class, wait);
        return note_begun(wait, fetch_want(remote->fetch, entry, local, &wait->waiter));
}

int remote_begin_piece(struct remote *remote, struct fetch_large *large, uint64_t index,
                       enum fetch_class class, struct remote_wait *wait)
{
        prepare(remote, class, wait);
        return note_begun(wait, fetch_want_piece(remote->fetch, large, index, &wait->waiter));
}

int remote_await(struct remote *remote, struct remote_wait *wait)
{
        if (!wait->begun)
                return 0;
        mutex_lock(&remote->lock);
        while (!wait->over)
                condition_wait(&remote->came, &remote->lock);
        mutex_unlock(&remote->lock);
        return wait->error;
}

void remote_drop(struct remote *remote, struct remote_wait *wait)
{
        if (wait->begun) {
                fetch_interrupt(remote->fetch, &wait->waiter);
                (void)remote_await(remote, wait);
                fetch_content_unref(wait->content);
        }
        *wait = (struct remote_wait){ 0 };
}

/* ---- small contents ---- */

/* By pieces, from a master of ours. */
static bool is_large(const struct catalog_entry *entry)
{
        return hash_by_pieces(entry->content.algorithm);
}

void remote_want(struct remote *remote, const struct catalog_entry *entry, struct remote_wait *wait)
{
        if (entry->kind == ENTRY_FILE && !entry->tiny && entry->content.algorithm != HASH_NONE &&
            !is_large(entry) && !store_has(remote->store, &entry->content))
                (void)remote_begin(remote, entry, FETCH_PREFETCH, false, wait);
}

static int send_fd(const struct remote *r, int fd, sink_fn sink, void *arg)
{
        _cleanup_free_ char *data = malloc(READ_BYTES);
        ssize_t n = 0;
        int error = data ? 0 : -ENOMEM;

        while (error == 0 && (n = read(fd, data, READ_BYTES)) > 0)
                error = remote_is_interrupted(r) ? -ECANCELED : sink(data, (size_t)n, arg);
        return n < 0 ? -errno : error;
}

static int send_tiny(struct remote *r, const struct catalog_entry *entry, sink_fn sink, void *arg)
{
        uint8_t data[ENTRY_TINY_MAX];
        size_t len;
        int error = entry->tiny ? catalog_get_tiny(r->catalog, entry, data, &len) : CATALOG_NONE;

        return error == CATALOG_OK ? sink(data, len, arg) : error;
}

/* What one has that waits for what another process fetches, or for a master that brings only what is waited for. */
static bool is_put_off(int error)
{
        return error == -EBUSY || error == -EOPNOTSUPP;
}

static int send_small(struct remote *r, const struct catalog_entry *entry, struct remote_wait *wait,
                      sink_fn sink, void *arg)
{
        _cleanup_close_ int fd = -1;
        int error;

        for (int i = 0; i <= TRIES_MAX; i++) {
                error = remote_await(r, wait);
                if (error < 0 && (!is_put_off(error) || remote_is_interrupted(r)))
                        return error;
                if (wait->content)
                        return sink(wait->content->data, wait->content->len, arg);
                remote_drop(r, wait);
                error = store_get(r->store, &entry->content, &fd);
                if (error != STORE_MISS)
                        return error < 0 ? error : send_fd(r, fd, sink, arg);
                (void)remote_begin(r, entry, FETCH_READ, false, wait);
        }
        return -EIO;
}

/* ---- large ones ---- */

struct stream {
        struct remote *remote;
        struct fetch_large *large; /* a reference */
        uint64_t size, ahead;      /* pieces before this one were wanted */
        struct remote_wait waits[PIECES_AHEAD];
        uint8_t data[PIECE_BYTES];
};

static struct remote_wait *wait_of(struct stream *s, uint64_t index)
{
        return &s->waits[index % PIECES_AHEAD];
}

static void want_ahead(struct stream *s, uint64_t from)
{
        const uint64_t end = MIN(from + PIECES_AHEAD, pieces_count(s->size));

        for (s->ahead = MAX(s->ahead, from); s->ahead < end; s->ahead++)
                if (store_pieces_state(fetch_large_pieces(s->large), s->ahead) != PIECE_HERE)
                        (void)remote_begin_piece(s->remote, s->large, s->ahead,
                                                 s->ahead == from ? FETCH_READ : FETCH_PREFETCH,
                                                 wait_of(s, s->ahead));
}

static int send_piece(struct stream *s, uint64_t index, sink_fn sink, void *arg)
{
        struct remote_wait *w = wait_of(s, index);
        const size_t len = piece_len(s->size, index);

        for (int i = 0; i <= TRIES_MAX; i++) {
                int error = remote_await(s->remote, w);

                if (error < 0 && (!is_put_off(error) || remote_is_interrupted(s->remote)))
                        return error;
                if (w->content)
                        return sink(w->content->data, w->content->len, arg);
                remote_drop(s->remote, w);
                if (store_pieces_read(fetch_large_pieces(s->large), s->data, len, index * PIECE_BYTES) ==
                    (ssize_t)len)
                        return sink(s->data, len, arg);
                (void)remote_begin_piece(s->remote, s->large, index, FETCH_READ, w);
        }
        return -EIO;
}

static int send_pieces(struct remote *r, struct fetch_large *large, sink_fn sink, void *arg)
{
        struct stream *s = calloc(1, sizeof(*s));
        int error = s ? 0 : -ENOMEM;

        if (!s)
                return error;
        s->remote = r;
        s->large = large;
        s->size = fetch_large_size(large);
        for (uint64_t i = 0; i < pieces_count(s->size) && error == 0; i++) {
                want_ahead(s, i);
                error = remote_is_interrupted(r) ? -ECANCELED : send_piece(s, i, sink, arg);
                remote_drop(r, wait_of(s, i));
        }
        for (unsigned i = 0; i < PIECES_AHEAD; i++)
                remote_drop(r, &s->waits[i]);
        free(s);
        return error;
}

static int send_large(struct remote *r, const struct catalog_entry *entry, struct remote_wait *wait,
                      sink_fn sink, void *arg)
{
        struct fetch_large *large;
        int error = fetch_large_open(r->fetch, entry, &large);

        if (error == STORE_HAVE)
                return send_small(r, entry, wait, sink, arg);
        if (error != STORE_OK)
                return error < 0 ? error : -EHOSTUNREACH;
        error = send_pieces(r, large, sink, arg);
        fetch_large_unref(large);
        return error;
}

/* ---- */

int remote_read(struct remote *remote, const struct catalog_entry *entry, struct remote_wait *ahead,
                int (*sink)(const void *data, size_t len, void *arg), void *arg)
{
        int error;

        if (entry->content.algorithm == HASH_NONE)
                return -EIO;
        error = send_tiny(remote, entry, sink, arg);
        if (error == CATALOG_NONE)
                error = is_large(entry) ? send_large(remote, entry, ahead, sink, arg)
                                        : send_small(remote, entry, ahead, sink, arg);
        remote_drop(remote, ahead);
        return remote_is_interrupted(remote) ? -ECANCELED : error;
}

int remote_follow(struct remote *remote, struct catalog_entry *entry)
{
        _cleanup_buffer_ struct buffer path = { 0 };
        struct catalog_entry now;
        int error = catalog_path(remote->catalog, entry->ino, &path);

        if (error == CATALOG_OK)
                error = catalog_find_path(remote->catalog, path.data ?: "", path.len, &now);
        if (error != CATALOG_OK || now.kind != ENTRY_FILE || now.ino == entry->ino)
                return error < 0 ? error : -ESTALE;
        *entry = now;
        return 0;
}
