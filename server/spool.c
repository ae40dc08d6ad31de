#include "server/spool.h"

#include <string.h>

#include <utlist.h>

#include "base/io.h"
#include "server/listings.h"
#include "server/spool_private.h"

#define UNUSED_MAX 64

struct spools {
        struct pool *pool;
        struct turns *gatherings;
        char *dir; /* owned */
        uint64_t bytes_max;
        int64_t idle_ns;

        struct mutex lock; /* never held during I/O */
        struct spool *list
                TSA_GUARDED(lock); /* those that are `listed`, and were not used for the longest time first */
        unsigned in_use TSA_GUARDED(lock);
        unsigned unused TSA_GUARDED(lock);
        uint64_t unused_bytes TSA_GUARDED(lock);
};

int spools_new(const struct spools_options *options, struct spools **ret)
{
        struct spools *spools = calloc(1, sizeof(*spools));

        if (!spools)
                return -ENOMEM;
        spools->pool = options->pool;
        spools->gatherings = options->gatherings;
        spools->dir = strdup(options->dir);
        if (!spools->dir) {
                free(spools);
                return -ENOMEM;
        }
        spools->bytes_max = options->bytes_max;
        spools->idle_ns = options->idle_ms * NSEC_PER_MSEC;
        mutex_init(&spools->lock);
        *ret = spools;
        return 0;
}

struct pool *spools_pool(const struct spools *spools)
{
        return spools->pool;
}

const char *spools_dir(const struct spools *spools)
{
        return spools->dir;
}

static void spool_free(struct spool *spool)
{
        tree_view_put(spool->view);
        if (spool->fd >= 0)
                close(spool->fd);
        free(spool->frames);
        free(spool->spider);
        free(spool->path);
        free(spool);
}

static void free_chain(struct spool *chain)
{
        while (chain) {
                struct spool *spool = chain;
                chain = spool->next;
                spool_free(spool);
        }
}

/* ---- those that nobody uses ---- */

/* Moves SPOOL, which nobody uses, to CHAIN, to be freed outside of the lock. */
static void drop_locked(struct spools *spools, struct spool *spool, struct spool **chain)
        TSA_REQUIRES(spools->lock)
{
        DL_DELETE(spools->list, spool);
        spools->unused--;
        spools->unused_bytes -= spool->state.bytes;
        spool->next = *chain;
        *chain = spool;
}

static struct spool *oldest_unused_locked(struct spools *spools) TSA_REQUIRES(spools->lock)
{
        struct spool *spool;

        DL_FOREACH (spools->list, spool)
                if (spool->users == 0)
                        return spool;
        return NULL;
}

static struct spool *trim_locked(struct spools *spools, int64_t before_ns) TSA_REQUIRES(spools->lock)
{
        struct spool *chain = NULL, *oldest;

        while ((oldest = oldest_unused_locked(spools)) &&
               (spools->unused > UNUSED_MAX || spools->unused_bytes > spools->bytes_max ||
                oldest->unused_ns < before_ns))
                drop_locked(spools, oldest, &chain);
        return chain;
}

void spools_expire(struct spools *spools)
{
        struct spool *chain;

        mutex_lock(&spools->lock);
        chain = trim_locked(spools, clock_monotonic_ns() - spools->idle_ns);
        mutex_unlock(&spools->lock);
        free_chain(chain);
}

void spools_free(struct spools *spools)
{
        struct spool *chain;

        if (!spools)
                return;
        mutex_lock(&spools->lock);
        assert(spools->in_use == 0);
        chain = trim_locked(spools, INT64_MAX);
        mutex_unlock(&spools->lock);
        free_chain(chain);
        mutex_release(&spools->lock);
        free(spools->dir);
        free(spools);
}

/* Nobody has SPOOL but its job, which has not begun: that is not run, and SPOOL is nobody's. */
static void drop_unbuilt_locked(struct spools *spools, struct spool *spool) TSA_REQUIRES(spools->lock)
{
        if (spool->users != 1 || !turns_withdraw(spools->gatherings, &spool->job))
                return;
        spool->users = 0;
        DL_DELETE(spools->list, spool);
        spool->listed = false;
}

void spool_put(struct spool *spool)
{
        struct spools *spools;
        struct spool *chain = NULL;

        if (!spool)
                return;
        spools = spool->owner;
        mutex_lock(&spools->lock);
        spool->users--;
        drop_unbuilt_locked(spools, spool);
        if (spool->users == 0) {
                assert(!spool->waiters);
                spools->in_use--;
                /* One folder's children are made quickly again, and must not push out what a broken transfer goes on with. */
                if (spool->listed && spool->form == SPOOL_CHILDREN) {
                        DL_DELETE(spools->list, spool);
                        spool->listed = false;
                }
                if (spool->listed) {
                        spool->unused_ns = clock_monotonic_ns();
                        spools->unused++;
                        spools->unused_bytes += spool->state.bytes;
                        DL_DELETE(spools->list, spool);
                        DL_APPEND(spools->list, spool);
                        chain = trim_locked(spools, INT64_MIN);
                } else {
                        spool->next = NULL;
                        chain = spool;
                }
        }
        mutex_unlock(&spools->lock);
        free_chain(chain);
}

/* ---- asking for one ---- */

static bool is_of(const struct spool *spool, const struct spool_key *key)
{
        return spool->form == key->form && spool->state.base == key->base &&
               spool->state.revision == key->revision &&
               spool->has_base_digest == (key->base_digest != NULL) &&
               (!key->base_digest || memcmp(spool->base_digest, key->base_digest, HASH_BYTES) == 0) &&
               strcmp(spool->spider, key->spider) == 0 && strcmp(spool->path, key->path) == 0;
}

/* With a reference. */
static struct spool *find_locked(struct spools *spools, const struct spool_key *key)
        TSA_REQUIRES(spools->lock)
{
        struct spool *spool;

        DL_FOREACH (spools->list, spool) {
                if (!is_of(spool, key))
                        continue;
                if (spool->users++ == 0) {
                        spools->unused--;
                        spools->unused_bytes -= spool->state.bytes;
                        spools->in_use++;
                }
                return spool;
        }
        return NULL;
}

static struct spool *spool_new(struct spools *spools, const struct spool_key *key)
{
        struct spool *spool = calloc(1, sizeof(*spool));

        if (!spool)
                return NULL;
        spool->owner = spools;
        spool->fd = -1;
        spool->form = key->form;
        spool->state.base = key->base;
        spool->state.revision = key->revision;
        if (key->base_digest) {
                spool->has_base_digest = true;
                memcpy(spool->base_digest, key->base_digest, HASH_BYTES);
        }
        spool->job.job.run = spool_build;
        spool->spider = strdup(key->spider);
        spool->path = strdup(key->path);
        if (!spool->spider || !spool->path) {
                spool_free(spool);
                return NULL;
        }
        return spool;
}

/* SPOOL begins its life: with two references, the job's and the asker's. */
static void enlist_locked(struct spools *spools, struct spool *spool, struct tree_view *view,
                          struct rpc_peer *peer) TSA_REQUIRES(spools->lock)
{
        if (spool->state.base == 0 && spool->path[0] == '\0' && spool->form != SPOOL_CHILDREN)
                spool->state.entries = tree_view_version(view)->entries;
        spool->view = view;
        spool->users = 2;
        spool->listed = true;
        spools->in_use++;
        DL_APPEND(spools->list, spool);
        turns_submit(spools->gatherings, &spool->job, peer);
}

int spools_get(struct spools *spools, const struct spool_key *key, struct tree_view *view, struct spool **ret)
{
        struct spool *fresh = view ? spool_new(spools, key) : NULL, *spool;
        int r = 0;

        mutex_lock(&spools->lock);
        spool = find_locked(spools, key);
        if (spool) {
                turns_share(spools->gatherings, &spool->job, key->peer);
        } else if (fresh && listings_have_room(spools->in_use, key->peer)) {
                enlist_locked(spools, fresh, TAKE_PTR(view), key->peer);
                spool = TAKE_PTR(fresh);
        } else {
                r = !view ? -ENOENT : fresh ? -EMFILE : -ENOMEM;
        }
        mutex_unlock(&spools->lock);
        if (fresh)
                spool_free(fresh);
        tree_view_put(view);
        if (r >= 0)
                *ret = spool;
        return r;
}

/* ---- while it is built ---- */

static void wake_all_locked(struct spool *spool)
{
        struct spool_waiter *waiter, *next;

        DL_FOREACH_SAFE (spool->waiters, waiter, next) {
                DL_DELETE(spool->waiters, waiter);
                waiter->queued = false;
                waiter->wake(waiter);
        }
}

void spool_decide(struct spool *spool, bool plain, const uint8_t *root_digest, size_t len)
{
        mutex_lock(&spool->owner->lock);
        spool->state.decided = true;
        spool->state.plain = plain;
        hash_take(spool->state.root_digest, root_digest, len);
        spool->state.root_digest_len = len;
        if (!plain) /* otherwise there is nothing to be had yet */
                wake_all_locked(spool);
        mutex_unlock(&spool->owner->lock);
}

static int add_frame_locked(struct spool *spool, size_t len, size_t entries)
{
        if (spool->n_frames == spool->frames_room) {
                size_t room = MAX(spool->frames_room * 2, (size_t)1);
                struct spool_frame *frames = reallocarray(spool->frames, room, sizeof(*frames));
                if (!frames)
                        return -ENOMEM;
                spool->frames = frames;
                spool->frames_room = room;
        }
        spool->frames[spool->n_frames++] =
                (struct spool_frame){ .offset = spool->state.bytes, .len = len, .entries = entries };
        spool->state.bytes += len;
        spool->entries += entries;
        return 0;
}

static void complete_locked(struct spool *spool)
{
        spool->state.complete = true;
        spool->state.entries = spool->entries;
}

int spool_publish(struct spool *spool, size_t len, size_t entries, bool last)
{
        int r;

        mutex_lock(&spool->owner->lock);
        r = add_frame_locked(spool, len, entries);
        if (r >= 0 && last)
                complete_locked(spool);
        wake_all_locked(spool);
        mutex_unlock(&spool->owner->lock);
        return r;
}

void spool_end(struct spool *spool, int error)
{
        struct spools *spools = spool->owner;

        mutex_lock(&spools->lock);
        spool->state.error = error;
        complete_locked(spool);
        if (error < 0) { /* whoever asks next may have more luck */
                DL_DELETE(spools->list, spool);
                spool->listed = false;
        }
        wake_all_locked(spool);
        mutex_unlock(&spools->lock);
        turns_end(spools->gatherings, &spool->job);
}

/* ---- reading ---- */

void spool_get_state(struct spool *spool, struct spool_state *ret)
{
        mutex_lock(&spool->owner->lock);
        *ret = spool->state;
        mutex_unlock(&spool->owner->lock);
}

static void wait_locked(struct spool *spool, struct spool_waiter *waiter)
{
        if (waiter->queued)
                return;
        waiter->queued = true;
        DL_APPEND(spool->waiters, waiter);
}

void spool_forget(struct spool *spool, struct spool_waiter *waiter)
{
        mutex_lock(&spool->owner->lock);
        if (waiter->queued)
                DL_DELETE(spool->waiters, waiter);
        waiter->queued = false;
        mutex_unlock(&spool->owner->lock);
}

int spool_wait_settled(struct spool *spool, struct spool_waiter *waiter)
{
        const struct spool_state *state = &spool->state;
        int r = 0;

        mutex_lock(&spool->owner->lock);
        if (!state->complete && (!state->decided || state->plain)) {
                wait_locked(spool, waiter);
                r = 1;
        }
        mutex_unlock(&spool->owner->lock);
        return r;
}

static const struct spool_frame *find_frame_locked(const struct spool *spool, uint64_t offset)
{
        size_t low = 0, high = spool->n_frames;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (spool->frames[middle].offset == offset)
                        return &spool->frames[middle];
                if (spool->frames[middle].offset < offset)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

/* As spool_read, but says only where the frame is. */
static int locate(struct spool *spool, uint64_t offset, struct spool_waiter *waiter, struct spool_frame *ret)
{
        const struct spool_state *state = &spool->state;
        const struct spool_frame *frame;
        int r = 0;

        mutex_lock(&spool->owner->lock);
        frame = find_frame_locked(spool, offset);
        if (state->error < 0)
                r = state->error;
        else if (frame)
                *ret = *frame;
        else if (offset < state->bytes || (state->complete && offset > state->bytes))
                r = -EINVAL;
        else if (state->complete)
                r = -ENODATA;
        else
                r = 1;
        if (r == 1)
                wait_locked(spool, waiter);
        mutex_unlock(&spool->owner->lock);
        return r;
}

int spool_read(struct spool *spool, uint64_t offset, struct spool_waiter *waiter, struct spool_piece *ret)
{
        _cleanup_free_ uint8_t *data = NULL;
        struct spool_frame frame;
        ssize_t n;
        int r = locate(spool, offset, waiter, &frame);

        if (r != 0)
                return r;
        data = malloc(frame.len);
        if (!data)
                return -ENOMEM;
        n = io_pread_all(spool->fd, data, frame.len, (off_t)frame.offset);
        if (n < 0)
                return (int)n;
        if ((size_t)n != frame.len)
                return -EIO;
        *ret = (struct spool_piece){
                .data = TAKE_PTR(data),
                .len = frame.len,
                .entries = frame.entries,
                .next = frame.offset + frame.len,
        };
        return 0;
}
