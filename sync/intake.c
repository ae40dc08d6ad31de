#include "sync/intake.h"

#include <stdatomic.h>
#include <string.h>

#include "proto/pack.h"
#include "sync/incoming.h"
#include "sync/warm.h"

#define HEARTBEATS_MAX 14400 /* chunks without entries in a row: two hours of a master that hashes */
#define RESTARTS_MAX   100   /* of a transfer that broke off, or that its master overtook */
#define SAVE_ENTRIES   50000 /* of a first version, between two saves */
#define SAVE_NS        (300 * NSEC_PER_MSEC)

/*
 * What came goes into one of two sinks, chosen by the first entry: an update of the version there is, or, for a first
 * version in packs, a load, which shows folders before all are there and goes on after a restart.
 */
struct intake {
        struct intake_options options;
        bool stock;
        struct catalog_update *update; /* owned; one of the two at most */
        struct catalog_load *load;     /* owned */
        struct warm *warm;             /* owned; NULL: nothing is fetched ahead */
        struct incoming *incoming;     /* owned; a stock master's entries until all are there */
        struct pack_reader *reader;    /* owned; made by the first pack */

        bool named;               /* the version is known: */
        enum hash_algorithm hash; /* the tree's base; of a stock master's HASH_XXH3 */
        uint8_t digest[HASH_BYTES];
        uint64_t revision, base;
        enum strategy strategy;

        uint64_t received;  /* entries */
        uint64_t announced; /* how many there are, as a stock master says; 0: it does not */
        unsigned heartbeats;
        unsigned restarts;
        bool misfit;     /* a difference that does not fit the version that is here */
        uint64_t offset; /* behind the last pack that was taken */
        uint64_t saved_entries;
        int64_t saved_ns;
        bool complete, unchanged, notice;
        struct failure *failure; /* of the call under way */
};

int intake_new(const struct intake_options *options, struct intake **ret)
{
        struct intake *in = calloc(1, sizeof(*in));
        int r = 0;

        if (!in)
                return -ENOMEM;
        in->options = *options;
        in->hash = HASH_XXH3;
        in->stock = session_get_dialect(options->session) == SESSION_STOCK;
        if (in->stock)
                r = incoming_new(&in->incoming);
        if (r < 0) {
                intake_free(in);
                return r;
        }
        *ret = in;
        return 0;
}

/* What came so far counts for nothing. */
static void drop_sink(struct intake *in)
{
        catalog_update_abort(TAKE_PTR(in->update));
        catalog_load_free(TAKE_PTR(in->load));
        warm_free(TAKE_PTR(in->warm));
        in->received = in->offset = 0;
}

void intake_free(struct intake *intake)
{
        if (!intake)
                return;
        drop_sink(intake);
        incoming_free(intake->incoming);
        pack_reader_free(intake->reader);
        free(intake);
}

static int refuse(struct intake *in, const char *why)
{
        return failure_set(in->failure, -EPROTO, "the master's listing is refused: %s", why);
}

static int cannot_write(struct intake *in, int error)
{
        return failure_set(in->failure, error, "cannot write the catalog: %s", strerror(-error));
}

/* ---- entries ---- */

static const char *entry_fault(int error)
{
        switch (error) {
        case -EEXIST:
                return "listed twice";
        case -ENOENT:
                return "its folder is not listed before it";
        case -ENOTDIR:
                return "it lies in something that is not a folder";
        case -EFBIG:
                return "its size, or the number of entries, is beyond all sense";
        case -EINVAL:
        case -ENAMETOOLONG:
                return "it is malformed";
        default:
                return NULL;
        }
}

static int put_entry(const struct entry *entry, void *arg)
{
        struct intake *in = arg;
        int r = in->load ? catalog_load_put(in->load, entry) : catalog_update_put(in->update, entry);
        const char *fault = r < 0 ? entry_fault(r) : NULL;

        in->received++;
        if (r == 0 || (r == -EBADMSG && in->load))
                return r;
        /* The two ends differ, as a digest would show: everything is to be asked for (promise 8). */
        in->misfit = in->base != 0 && (r == -ENOENT || r == -ENOTDIR);
        if (in->misfit)
                return -EBADMSG;
        if (fault)
                return failure_set(in->failure, -EPROTO, "the master's listing is refused: entry '%.*s': %s",
                                   (int)MIN(entry->path_len, (size_t)200), entry->path, fault);
        return cannot_write(in, r);
}

/* A stock master's listing is always everything. */
static int put_stock(const struct entry *entry, void *arg)
{
        struct entry copy = *entry;

        copy.whole = entry->path_len == 0;
        return put_entry(&copy, arg);
}

static int begin_update(struct intake *in)
{
        int r = catalog_update_begin(in->options.catalog, &in->update);

        if (r < 0)
                return cannot_write(in, r);
        catalog_update_set_hash(in->update, in->hash);
        if (in->options.store)
                r = warm_new(in->options.session, in->options.store, &in->warm);
        if (in->warm)
                catalog_update_on_replaced(in->update, warm_note, in->warm);
        return r;
}

static int begin_load(struct intake *in, uint64_t offset)
{
        struct catalog_load_target target = { .hash = in->hash, .revision = in->revision, .offset = offset };
        int r;

        memcpy(target.digest, in->digest, HASH_BYTES);
        r = catalog_load_begin(in->options.catalog, &target, &in->load);
        in->saved_ns = clock_monotonic_ns();
        in->saved_entries = 0;
        return r < 0 ? cannot_write(in, r) : 0;
}

/* OFFSET: where in the transfer the first entry lies; only a load can begin in its middle. */
static int begin_sink(struct intake *in, uint64_t offset)
{
        struct catalog_version version;

        progress_enter(in->options.progress, PROGRESS_RECEIVING);
        catalog_get_version(in->options.catalog, &version);
        if (in->base != 0 && (!version.valid || version.loading || in->base > version.revision))
                return refuse(in, "it is a difference from a version that this worker does not have");
        /* What is shown of a version that cannot be had any more must not go before the next one is whole. */
        if (version.loading && memcmp(version.digest, in->digest, HASH_BYTES) == 0)
                version.valid = false;
        if (in->strategy == STRATEGY_SNAPSHOT && in->base == 0 && !version.valid)
                return begin_load(in, offset);
        return offset == 0 ? begin_update(in)
                           : -EBADMSG; /* of something that is not here: to be asked for in full */
}

/* ---- messages ---- */

/* Of one that begins anew over and over nothing would ever come. */
static int begin_anew(struct intake *in)
{
        drop_sink(in);
        return ++in->restarts > RESTARTS_MAX ? refuse(in, "it begins anew again and again") : 0;
}

/* Whether the mount takes names by HASH, as which algorithm the master's contents are named. */
static int check_hash(struct intake *in, enum hash_algorithm hash)
{
        enum hash_algorithm wanted = session_get_hash(in->options.session);

        if (wanted == HASH_NONE || hash == wanted)
                return 0;
        return failure_set(in->failure, -EACCES,
                           "the master names contents by %s, and this mount insists on %s (hash=): "
                           "fsyncfs-server --hash %s does so",
                           hash_algorithm_name(hash), hash_algorithm_name(wanted),
                           hash_algorithm_name(wanted));
}

/* Each message of one answer names the same version; that of another answer may name another one. */
static int take_version(struct intake *in, const Grpc__FileScanChunk *chunk)
{
        bool same = in->named && in->revision == chunk->revision && in->base == chunk->base_revision;
        enum hash_algorithm hash = hash_of_len(chunk->root_digest.len);
        int r;

        if (hash == HASH_NONE)
                return refuse(in, "it names no version");
        if (same && hash == in->hash &&
            memcmp(in->digest, chunk->root_digest.data, chunk->root_digest.len) == 0)
                return 0;
        r = check_hash(in, hash);
        if (r < 0)
                return r;
        if (in->update || in->load)
                r = begin_anew(in);
        if (r < 0)
                return r;
        if (chunk->strategy > STRATEGY_SNAPSHOT)
                return refuse(in, "it is sent in a way that this worker does not know");
        in->hash = hash;
        hash_take(in->digest, chunk->root_digest.data, chunk->root_digest.len);
        in->revision = chunk->revision;
        in->base = chunk->base_revision;
        in->strategy = (enum strategy)chunk->strategy;
        in->named = true;
        return 0;
}

static int take_files(struct intake *in, const Grpc__FileScanChunk *chunk)
{
        int r = in->update || in->load ? 0 : begin_sink(in, 0);

        for (size_t i = 0; r == 0 && i < chunk->n_files; i++) {
                struct entry entry;
                r = incoming_read_own(in->hash, chunk->files[i], &entry, in->failure);
                if (r == 0)
                        r = put_entry(&entry, in);
        }
        return r;
}

static int save(struct intake *in)
{
        int64_t now = clock_monotonic_ns();
        int r;

        if (!in->load || (in->received - in->saved_entries < SAVE_ENTRIES && now - in->saved_ns < SAVE_NS))
                return 0;
        r = catalog_load_save(in->load, in->offset);
        in->saved_entries = in->received;
        in->saved_ns = clock_monotonic_ns();
        return r < 0 ? cannot_write(in, r) : 0;
}

static int take_pack(struct intake *in, const Grpc__FileScanChunk *chunk)
{
        bool begun = in->update || in->load;
        int r = 0;

        /* A transfer that goes on where it was, or begins anew; nothing else. */
        if (begun && chunk->offset != in->offset) {
                if (chunk->offset != 0)
                        return refuse(in, "a piece of it is missing");
                begun = false;
                r = begin_anew(in);
        }
        if (r == 0 && !in->reader)
                r = pack_reader_new(&in->reader);
        if (r == 0 && !begun)
                r = begin_sink(in, chunk->offset);
        if (r < 0)
                return r;
        r = pack_read(in->reader, chunk->pack.data, chunk->pack.len, put_entry, in);
        if (r == -EBADMSG && !in->load && !in->misfit)
                return refuse(in, "a malformed pack");
        if (r < 0)
                return r;
        if (chunk->next_offset <= chunk->offset)
                return refuse(in, "its pieces do not follow each other");
        in->offset = chunk->next_offset;
        return save(in);
}

static void note_progress(struct intake *in, const Grpc__FileScanChunk *chunk)
{
        struct progress *p = in->options.progress;
        uint64_t entries = in->received;

        if (in->stock)
                atomic_store(&p->total_entries, in->announced);
        else if (chunk->total_entries > 0)
                atomic_store(&p->total_entries, chunk->total_entries);
        if (chunk->total_bytes > 0)
                atomic_store(&p->total_bytes, chunk->total_bytes);
        atomic_store(&p->entries, entries);
}

static int take_own(struct intake *in, const Grpc__FileScanChunk *chunk)
{
        bool empty = chunk->n_files == 0 && chunk->pack.len == 0;
        uint64_t before = in->received;
        int r;

        /* Our own master says twice a second that it is still hashing. */
        in->heartbeats++;
        if (in->heartbeats > HEARTBEATS_MAX)
                return failure_set(in->failure, -ETIMEDOUT,
                                   "the master keeps us waiting without listing anything");
        if (in->complete)
                return refuse(in, "it goes on after its end");
        if (empty && !chunk->is_complete && !chunk->notice)
                return 0;
        r = take_version(in, chunk);
        if (r == 0 && chunk->n_files > 0)
                r = take_files(in, chunk);
        if (r == 0 && chunk->pack.len > 0)
                r = take_pack(in, chunk);
        if (r < 0)
                return r;
        if (chunk->total_entries > 0 && in->received > chunk->total_entries)
                return refuse(in, "it announced fewer entries than it sends");
        if (in->received != before)
                in->heartbeats = 0;
        in->complete = chunk->is_complete;
        in->unchanged = chunk->unchanged;
        in->notice = chunk->notice;
        return 0;
}

static int take_stock(struct intake *in, const Grpc__FileScanChunk *chunk)
{
        int r = check_hash(in, HASH_MD5);

        if (r < 0)
                return r;
        if (in->complete)
                return refuse(in, "it goes on after its end");
        if (chunk->n_files == 0 && !chunk->is_complete)
                return failure_set(in->failure, -ETIMEDOUT,
                                   "the master keeps us waiting without listing anything");
        if (in->received == 0)
                progress_enter(in->options.progress, PROGRESS_RECEIVING);
        in->received += chunk->n_files;
        in->announced = chunk->total_files > 0 ? (uint64_t)chunk->total_files : 0;
        /* A stock master may leave its root out of the count. */
        if (in->announced > 0 && in->received > in->announced + 1)
                return failure_set(in->failure, -EPROTO,
                                   "the master's listing is refused: it announced %d entries, then sent more",
                                   chunk->total_files);
        for (size_t i = 0; i < chunk->n_files; i++) {
                struct entry entry;
                r = incoming_read_stock(chunk->files[i], &entry, in->failure);
                if (r == 0)
                        r = incoming_add(in->incoming, &entry);
                if (r < 0)
                        return in->failure->text[0]
                                       ? r
                                       : failure_set(in->failure, r,
                                                     "the master's listing is too large to hold: %s",
                                                     strerror(-r));
        }
        in->complete = chunk->is_complete;
        return 0;
}

int intake_take(struct intake *intake, const Grpc__FileScanChunk *chunk, struct failure *failure)
{
        int r;

        intake->failure = failure;
        if (chunk->error[0])
                return failure_set(failure, -ENOENT, "the master cannot list spider '%s': %.300s",
                                   session_get_source(intake->options.session)->spider, chunk->error);
        r = intake->stock ? take_stock(intake, chunk) : take_own(intake, chunk);
        note_progress(intake, chunk);
        return r;
}

/* ---- the end ---- */

enum intake_state intake_get_state(const struct intake *intake)
{
        if (intake->unchanged)
                return INTAKE_UNCHANGED;
        if (intake->notice)
                return INTAKE_NOTICE;
        /* A stock master need not mark the end, but lists at least its root, and never fewer than it announces. */
        if (intake->stock ? intake->received > 0 && intake->received >= intake->announced : intake->complete)
                return INTAKE_COMPLETE;
        return intake->received > 0 ? INTAKE_PARTIAL : INTAKE_EMPTY;
}

bool intake_can_resume(const struct intake *intake, uint64_t *ret_base, uint64_t *ret_revision,
                       uint64_t *ret_offset)
{
        if (!(intake->update || intake->load) || intake->offset == 0)
                return false;
        *ret_base = intake->base;
        *ret_revision = intake->revision;
        *ret_offset = intake->offset;
        return true;
}

void intake_get_digest(const struct intake *intake, uint8_t ret[HASH_BYTES])
{
        memcpy(ret, intake->digest, HASH_BYTES);
}

uint64_t intake_get_revision(const struct intake *intake)
{
        return intake->revision;
}

bool intake_is_listed_in_full(const struct intake *intake)
{
        return intake->named && intake->base == 0 && !intake->unchanged && !intake->notice;
}

uint64_t intake_get_base(const struct intake *intake)
{
        return intake->base;
}

static int fetch_ahead(struct intake *in, bool last, struct intake_result *ret)
{
        int r = in->warm ? warm_run(in->warm, &ret->fetched_files, &ret->fetched_bytes) : 0;

        return r == -ESTALE && !last ? r : 0;
}

/* What came is all in its sink. */
static int fill_sink(struct intake *in)
{
        int r = 0;

        progress_enter(in->options.progress, PROGRESS_WRITING);
        /* An answer without entries is a difference of nothing; of everything it cannot be. */
        if (!in->stock && !in->update && !in->load)
                r = in->base != 0 ? begin_sink(in, 0) : refuse(in, "it is empty");
        if (r == 0 && in->stock)
                r = begin_update(in);
        if (r == 0 && in->stock)
                r = incoming_each_sorted(in->incoming, put_stock, in);
        return r;
}

int intake_preview(struct intake *intake, const struct intake_preview *preview, struct failure *failure)
{
        int r;

        intake->failure = failure;
        r = fill_sink(intake);
        if (r == 0 && !intake->update)
                r = -EINVAL; /* of a first version everything would be new */
        if (r < 0)
                return r;
        return catalog_update_preview(TAKE_PTR(intake->update), intake->stock ? NULL : intake->digest,
                                      preview->each, preview->arg);
}

int intake_commit(struct intake *intake, bool last, struct intake_result *ret, struct failure *failure)
{
        int r;

        intake->failure = failure;
        ret->strategy = intake->strategy;
        ret->difference = intake->base != 0;
        ret->entries = intake->received;
        r = fill_sink(intake);
        if (r == 0)
                r = fetch_ahead(intake, last, ret);
        if (r < 0)
                return r;
        if (intake->load) {
                r = catalog_load_finish(TAKE_PTR(intake->load));
                if (r == -EBADMSG)
                        return CATALOG_MISMATCH;
        } else {
                r = catalog_update_commit(TAKE_PTR(intake->update), intake->stock ? NULL : intake->digest,
                                          intake->revision, &ret->changes);
        }
        return r < 0 ? cannot_write(intake, r) : r;
}
