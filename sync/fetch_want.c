#include <string.h>

#include "sync/fetch_private.h"

#define SETTLE_MS 3000

/* ---- where a job goes ---- */

bool fetch_goes_by_channel(const struct fetch *f, const struct fetch_key *key, uint64_t size)
{
        if (key->folder || f->options.offline || atomic_load(&f->no_channel))
                return false;
        return key->piece > 0 || (hash_is_base(key->content.algorithm) && size <= PIECE_BYTES);
}

bool fetch_is_listable(const struct fetch_large *large)
{
        return store_pieces_listed(large->pieces) ||
               (large->size <= FETCH_LISTED_BYTES_MAX &&
                atomic_load(&large->list_failures) < FETCH_LIST_FAILURES_MAX);
}

bool fetch_is_for_thread(const struct fetch_job *job)
{
        if (atomic_load(&job->local) || job->refused)
                return true;
        if (!job->large)
                return false;
        return !fetch_is_listable(job->large) ||
               (fetch_may_adopt(job) && store_pieces_listed(job->large->pieces));
}

void fetch_place(struct fetch *f, struct fetch_job *job)
{
        if (fetch_goes_by_channel(f, &job->key, job->size) && !fetch_is_for_thread(job))
                fetch_enqueue(f, job);
        else
                fetch_hand_over(f, job);
}

/* ---- jobs ---- */

/* A new job for KEY, in no queue yet. NULL: out of memory. */
static struct fetch_job *add_job(struct fetch *f, const struct fetch_key *key, uint64_t size, uint64_t ino,
                                 enum fetch_class class) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job = calloc(1, sizeof(*job));

        if (!job)
                return NULL;
        memcpy(&job->key, key, sizeof(*key));
        job->size = size;
        job->ino = ino;
        job->asked_ns = clock_monotonic_ns();
        job->fetch = f;
        job->class = class;
        job->state = JOB_RUNNING;
        job->backoff_ms = FETCH_BACKOFF_FIRST_MS;
        HASH_ADD(hh, f->jobs, key, sizeof(job->key), job);
        if (!job->hh.tbl) {
                free(job);
                return NULL;
        }
        return job;
}

static struct fetch_job *find_job(struct fetch *f, const struct fetch_key *key) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job;

        HASH_FIND(hh, f->jobs, key, sizeof(*key), job);
        return job;
}

int fetch_claim_piece(struct fetch_job *job, bool may_wait)
{
        int r = job->claimed ? STORE_OK
                             : store_pieces_claim(job->large->pieces, job->key.piece - 1, may_wait);

        job->claimed = r == STORE_OK;
        return r;
}

void fetch_let_go(struct fetch_job *job)
{
        store_write_abort(TAKE_PTR(job->writer));
        if (job->claimed)
                store_pieces_give_up(job->large->pieces, job->key.piece - 1);
        job->claimed = false;
}

static void release_job(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock)
{
        fetch_let_go(job);
        fetch_large_unref_locked(f, job->large);
        fetch_content_unref(job->content);
        buffer_release(&job->list);
        free(job);
}

void fetch_free_job(struct fetch *f, struct fetch_job *job)
{
        HASH_DEL(f->jobs, job);
        release_job(f, job);
}

void fetch_end_job(struct fetch *f, struct fetch_job *job, int error)
{
        job->state = JOB_RUNNING;
        HASH_DEL(f->jobs, job); /* who wants it from now on wants it anew */
        fetch_end_waits(f, job, error, NULL);
        release_job(f, job);
}

/* A task waits for what was only wanted ahead: it goes to the end of the better queue, here or, if it is asked for already, with the master. */
static void upgrade(struct fetch *f, struct fetch_job *job, enum fetch_class class) TSA_REQUIRES(f->lock)
{
        if (class >= job->class)
                return;
        if (job->state == JOB_WAITING)
                DL_DELETE(f->waiting[job->class], job);
        else if (job->state == JOB_QUEUED)
                DL_DELETE(f->queued[job->class], job);
        job->class = class;
        if (job->state == JOB_WAITING)
                fetch_hand_over(f, job);
        else if (job->state == JOB_QUEUED)
                fetch_enqueue(f, job);
        if (job->state == JOB_ASKED && fetch_has_to_hurry(f, job)) {
                f->hurried = true;
                condition_signal(&f->send);
        }
}

/* ---- wanting ---- */

/* The job for ENTRY's content, the one under way or a new one, with WAITER among its waits. */
static int join_job(struct fetch *f, const struct fetch_key *key, const struct catalog_entry *entry,
                    bool local, struct fetch_waiter *waiter) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job = find_job(f, key);

        if (job) {
                waiter->joined = (enum fetch_joined)(1 + job->class);
                upgrade(f, job, waiter->class);
                fetch_link_waiter(f, job, waiter);
                return 0;
        }
        if (waiter->class != FETCH_READ && !local && !fetch_goes_by_channel(f, key, entry->size))
                return -EOPNOTSUPP;
        job = add_job(f, key, entry->size, entry->ino, waiter->class);
        if (!job)
                return -ENOMEM;
        job->local = local;
        fetch_link_waiter(f, job, waiter);
        fetch_place(f, job);
        return 0;
}

/* The same for a piece. */
static int join_piece(struct fetch *f, const struct fetch_key *key, struct fetch_large *large,
                      struct fetch_waiter *waiter) TSA_REQUIRES(f->lock)
{
        uint64_t index = key->piece - 1;
        struct fetch_job *job = find_job(f, key);
        bool local;

        if (job) {
                waiter->joined = (enum fetch_joined)(1 + job->class);
                upgrade(f, job, waiter->class);
                fetch_link_waiter(f, job, waiter);
                return 0;
        }
        local = store_pieces_state(large->pieces, index) == PIECE_UNCHECKED;
        if (waiter->class != FETCH_READ && !local && !fetch_goes_by_channel(f, key, large->size))
                return -EOPNOTSUPP;
        job = add_job(f, key, piece_len(large->size, index), atomic_load(&large->ino), waiter->class);
        if (!job)
                return -ENOMEM;
        job->offset = index * PIECE_BYTES;
        job->local = local;
        job->large = large;
        large->refs++;
        fetch_link_waiter(f, job, waiter);
        fetch_place(f, job);
        return 0;
}

void fetch_want_whole_instead(struct fetch *f, struct fetch_job *job)
{
        struct catalog_entry entry = { .ino = atomic_load(&job->ino),
                                       .kind = ENTRY_FILE,
                                       .size = job->large->size,
                                       .content = job->key.content };
        struct fetch_key key = job->key;
        struct fetch_waiter *w;

        key.piece = 0;
        while ((w = job->waiters)) {
                enum fetch_class class = w->class;
                int r;

                fetch_unlink_waiter(f, w);
                w->class =
                        FETCH_READ; /* no order is known for these: they are few, and all of the same content */
                r = w->interrupted ? -EINTR : join_job(f, &key, &entry, false, w);
                w->class = class;
                if (r == 0)
                        continue;
                mutex_unlock(&f->lock);
                fetch_end_wait(f, w, r);
                mutex_lock(&f->lock);
        }
        fetch_free_job(f, job);
}

/* The bytes of KEY if they are in memory; the job's. */
static struct fetch_content *get_at_hand(struct fetch *f, const struct fetch_key *key) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job = find_job(f, key);

        return job ? fetch_at_hand(f, job) : NULL;
}

/* Ends the want for WAITER at once if the bytes of KEY are in memory, with CONTENT, a reference. */
static void end_at_once(struct fetch *f, struct fetch_waiter *waiter, struct fetch_content *content)
{
        if (!content)
                return;
        waiter->content = content;
        fetch_end_wait(f, waiter, 0);
        fetch_content_unref(content);
}

/* What stands against wanting anything for WAITER; and the bytes of KEY, a reference, if they are in memory. */
static int begin_want(struct fetch *f, const struct fetch_key *key, struct fetch_waiter *waiter,
                      struct fetch_content **ret) TSA_REQUIRES(f->lock)
{
        if (waiter->interrupted || f->stopping)
                return waiter->interrupted ? -EINTR : -ECANCELED;
        *ret = get_at_hand(f, key);
        if (*ret) {
                fetch_content_ref(*ret);
                waiter->joined = FETCH_JOINED_READ;
                waiter->ending = true;
        }
        return 0;
}

int fetch_want(struct fetch *fetch, const struct catalog_entry *entry, bool local,
               struct fetch_waiter *waiter)
{
        struct fetch_content *content = NULL;
        struct fetch_key key;
        int r;

        memset(&key, 0, sizeof(key));
        key.content = entry->content;
        if (entry->kind == ENTRY_DIRECTORY)
                key.folder = entry->ino;
        mutex_lock(&fetch->lock);
        r = begin_want(fetch, &key, waiter, &content);
        if (r == 0 && !content)
                r = join_job(fetch, &key, entry, local, waiter);
        mutex_unlock(&fetch->lock);
        end_at_once(fetch, waiter, content);
        return r;
}

int fetch_want_piece(struct fetch *fetch, struct fetch_large *large, uint64_t index,
                     struct fetch_waiter *waiter)
{
        struct fetch_content *content = NULL;
        struct fetch_key key;
        int r;

        memset(&key, 0, sizeof(key));
        key.content = large->content;
        key.piece = index + 1;
        mutex_lock(&fetch->lock);
        r = begin_want(fetch, &key, waiter, &content);
        if (r == 0 && !content)
                r = join_piece(fetch, &key, large, waiter);
        mutex_unlock(&fetch->lock);
        end_at_once(fetch, waiter, content);
        return r;
}

/* ---- what is known ---- */

bool fetch_holds(struct fetch *fetch, const struct content_id *content)
{
        struct fetch_key key;
        struct fetch_job *job;
        bool holds;

        memset(&key, 0, sizeof(key));
        key.content = *content;
        mutex_lock(&fetch->lock);
        job = find_job(fetch, &key);
        holds = job && job->state == JOB_STORING;
        mutex_unlock(&fetch->lock);
        return holds;
}

void fetch_settle(struct fetch *fetch)
{
        int64_t until = clock_monotonic_ns() + SETTLE_MS * NSEC_PER_MSEC;

        mutex_lock(&fetch->lock);
        while (fetch->n_storing > 0 && condition_wait_until(&fetch->settled, &fetch->lock, until) == 0)
                continue;
        mutex_unlock(&fetch->lock);
}

void fetch_get_stats(struct fetch *fetch, struct fetch_stats *ret)
{
        ret->files = atomic_load(&fetch->files);
        ret->bytes = atomic_load(&fetch->bytes);
        ret->adopted_bytes = atomic_load(&fetch->adopted_bytes);
        ret->failures = atomic_load(&fetch->failures);
}
