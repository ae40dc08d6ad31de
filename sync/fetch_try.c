#include <string.h>

#include "sync/download.h"
#include "sync/fetch_private.h"
#include "sync/folder.h"

/*
 * One try of a job, on a thread that may wait for disks, other processes and the master.
 */

static int is_offline(struct failure *failure)
{
        return failure_set(failure, -EHOSTUNREACH, "not in the cache, and mounted with 'offline'");
}

static int store_failed(int error, struct failure *failure)
{
        return failure_set(failure, error, "cannot write to the cache: %s", strerror(-error));
}

/* What was here did not do: from here on the master's time counts. */
static void forget_local(struct fetch_job *job)
{
        atomic_store(&job->progress_ns, clock_monotonic_ns());
        atomic_store(&job->local, false);
}

static struct download_request request_for(struct fetch_job *job, const struct buffer *path)
{
        return (struct download_request){
                .path = path->data,
                .path_len = path->len,
                .content = job->key.content,
                .size = job->large ? job->large->size : job->size,
                .offset = job->offset,
                .length = job->large ? job->size : 0,
                .progress = fetch_note_progress,
                .progress_arg = job,
        };
}

/* ---- folders ---- */

/* Brings what is in a folder that is still pending. 0, or negative errno as folder_run. */
static int try_folder(struct fetch *f, struct fetch_job *job, const struct buffer *path,
                      struct failure *failure)
{
        struct catalog_version version;
        struct folder_request request = {
                .ino = job->key.folder,
                .path = path->data,
                .path_len = path->len,
                .digest = job->key.content.bytes,
                .large = &f->lists_large,
                .progress = fetch_note_progress,
                .progress_arg = job,
        };
        int64_t progress_ns = atomic_load(&job->progress_ns);
        struct catalog_entry entry;
        int r;

        catalog_get_version(f->options.catalog, &version);
        request.digest_len = hash_len(version.hash);
        if (catalog_get(f->options.catalog, job->key.folder, &entry) == CATALOG_OK && !entry.pending)
                return 0;
        if (f->options.offline)
                return failure_set(failure, -EHOSTUNREACH, "not in the catalog, and mounted with 'offline'");
        r = job->in_turn ? -EAGAIN : folder_run(f->options.session, f->options.catalog, &request, failure);
        if (r == -EFBIG) {
                job->in_turn = true;
                r = -EAGAIN;
        }
        /* It is not for now: the master has done its part, and yet nothing has moved. */
        if (r == -EAGAIN)
                atomic_store(&job->progress_ns, progress_ns);
        else
                fetch_note_away(f, job, fetch_worth_retrying(r) ? r : 0);
        return r;
}

/* ---- whole contents ---- */

/* Whether the content is here after all: verified now, if it was not since the machine started. */
static bool verify_local(struct fetch *f, const struct fetch_job *job)
{
        int fd;

        if (store_get(f->options.store, &job->key.content, &fd) != STORE_OK)
                return false;
        close(fd);
        return true;
}

static bool is_read(struct fetch *f, const struct fetch_job *job)
{
        bool read;

        mutex_lock(&f->lock);
        read = job->class == FETCH_READ;
        mutex_unlock(&f->lock);
        return read;
}

/*
 * Whether the channel is to bring JOB's content after all: RESULT of beginning to write it, which the channel would not wait for. What a task reads and the disk
 * cannot take comes without a writer: it is kept in memory for a while (fetch_store.c).
 */
static bool can_go_by_channel(struct fetch *f, const struct fetch_job *job, int result)
{
        if (job->unstored || !fetch_goes_by_channel(f, &job->key, job->size))
                return false;
        return result == STORE_OK ? !job->refused : result != -EINTR && is_read(f, job);
}

/* Begins to write the content and downloads it from PATH. 0, TRIED_CHANNEL, or negative errno as download_run. */
static int try_content(struct fetch *f, struct fetch_job *job, const struct buffer *path,
                       struct failure *failure)
{
        struct download_request request = request_for(job, path);
        struct store_writer *writer;
        int r;

        if (atomic_load(&job->local)) {
                if (verify_local(f, job))
                        return 0;
                forget_local(job);
        }
        if (f->options.offline)
                return is_offline(failure);
        r = store_write_begin(f->options.store, &job->key.content, job->size, &writer);
        if (r == STORE_HAVE)
                return 0;
        if (can_go_by_channel(f, job, r)) {
                job->unstored = MIN(r, 0);
                job->writer = r < 0 ? NULL : writer;
                return TRIED_CHANNEL;
        }
        if (r < 0)
                return store_failed(r, failure);
        atomic_store(&job->writing, true);
        r = download_run(f->options.session, &request, writer, failure);
        atomic_store(&job->writing, false);
        fetch_note_away(f, job, fetch_worth_retrying(r) ? r : 0);
        if (r == 0)
                fetch_count(f, job);
        return r;
}

/* ---- pieces ---- */

/* Downloads JOB's claimed piece, whose hash is known, into memory. */
static int download_piece(struct fetch *f, struct fetch_job *job, const struct buffer *path,
                          struct failure *failure)
{
        const uint8_t *expected = store_pieces_hash(job->large->pieces, job->key.piece - 1);
        struct download_request request = request_for(job, path);
        struct fetch_content *content = fetch_content_new(NULL, job->size);
        int r;

        if (!content)
                return -ENOMEM;
        atomic_store(&job->writing, true);
        r = download_range(f->options.session, &request, content->own, failure);
        atomic_store(&job->writing, false);
        fetch_note_away(f, job, fetch_worth_retrying(r) ? r : 0);
        if (r == 0 &&
            !hash_proves(hash_base(job->key.content.algorithm), content->data, content->len, expected))
                r = failure_set(failure, -EBADMSG, "what the master sent of '%.*s' does not match its hash",
                                (int)MIN(path->len, (size_t)200), path->data);
        if (r < 0) {
                fetch_content_unref(content);
                return r;
        }
        fetch_count(f, job);
        job->content = content;
        return 0;
}

/* Whether the channel is to bring what only had to wait for its turn here. */
static bool is_for_channel(struct fetch *f, struct fetch_job *job)
{
        if (atomic_load(&f->no_channel) || !fetch_is_listable(job->large))
                return false;
        if (!job->refused)
                return true;
        /* It was asked for in vain; nothing else brings a list, so maybe once more. */
        return !store_pieces_listed(job->large->pieces) &&
               atomic_fetch_add(&job->large->list_failures, 1) + 1 < FETCH_LIST_FAILURES_MAX;
}

static int try_piece(struct fetch *f, struct fetch_job *job, const struct buffer *path,
                     struct failure *failure)
{
        struct store_pieces *pieces = job->large->pieces;
        int r;

        if (atomic_load(&job->local)) {
                if (store_pieces_check(pieces, job->key.piece - 1) == STORE_OK)
                        return 0;
                forget_local(job);
        }
        r = job->unstored ? STORE_OK : fetch_claim_piece(job, true);
        if (r == -EBUSY && is_read(f, job)) {
                job->unstored = r; /* who has claimed it may be stopped: no reason to wait for it */
                r = STORE_OK;
        }
        if (r != STORE_OK)
                return r < 0 ? store_failed(r, failure) : 0;
        if (job->claimed && store_pieces_listed(pieces) && fetch_may_adopt(job)) {
                r = fetch_adopt(f, job);
                if (r != STORE_MISS)
                        return r < 0 ? store_failed(r, failure) : 0;
        }
        if (f->options.offline)
                return is_offline(failure);
        if (is_for_channel(f, job))
                return TRIED_CHANNEL;
        return store_pieces_listed(pieces) ? download_piece(f, job, path, failure) : TRIED_WHOLE;
}

int fetch_try(struct fetch *f, struct fetch_job *job, const struct buffer *path, struct failure *failure)
{
        if (job->key.folder)
                return try_folder(f, job, path, failure);
        return job->large ? try_piece(f, job, path, failure) : try_content(f, job, path, failure);
}
