#include "sync/scan.h"

#include <stdatomic.h>
#include <string.h>

#include "base/log.h"
#include "proto/wire.h"

#define OVERTAKEN_MAX      3 /* scans in a row that the master may overtake; then what there is is taken */
#define MESSAGE_MEMORY_MAX ((size_t)64 << 20) /* what one chunk may unpack to */

void scan_result_release(struct scan_result *result)
{
        catalog_changes_release(&result->intake.changes);
}

/* For tests: makes the master answer in one certain way. */
static uint32_t forced_strategy(void)
{
        static const char *const names[] = { "auto", "changes", "batches", "snapshot" };
        const char *name = getenv("FSYNCFS_TEST_STRATEGY");

        for (uint32_t i = 0; name && i < ARRAY_SIZE(names); i++)
                if (strcmp(name, names[i]) == 0)
                        return i;
        return STRATEGY_AUTO;
}

static void fill_own(Grpc__FileSyncRequest *message, const struct scan_request *request)
{
        message->fsyncfs_protocol = WIRE_PROTOCOL;
        message->strategy = forced_strategy();
        message->stat_pass = request->stat_pass;
        if (request->known && request->known->valid) {
                message->known_digest = (ProtobufCBinaryData){ hash_len(request->known->hash),
                                                               (uint8_t *)request->known->digest };
                message->known_revision = request->known->revision;
        }
        message->resume_revision = request->resume_revision;
        message->resume_offset = request->resume_offset;
}

int scan_send_request(struct session *session, struct rpc_stream *stream, const struct scan_request *request)
{
        const struct source *source = session_get_source(session);
        Grpc__FileSyncRequest message = GRPC__FILE_SYNC_REQUEST__INIT;

        message.spider_id = source->spider;
        message.path = source->path;
        message.node_key = (char *)session_get_node(session);
        if (session_get_dialect(session) != SESSION_STOCK)
                fill_own(&message, request);
        return wire_send_only(stream, &message.base);
}

/* ---- one exchange ---- */

/* A version that is listed in full need not follow the one there is: who scans decides. */
static int check_version(const struct scan_options *options, const struct intake *intake, const char *master,
                         struct failure *failure)
{
        uint8_t digest[HASH_BYTES];

        if (!options->accepts || !intake_is_listed_in_full(intake))
                return 0;
        intake_get_digest(intake, digest);
        if (options->accepts(digest, master, options->accepts_arg))
                return 0;
        return failure_set(failure, -EAGAIN, "master %s has an older version, which was here before", master);
}

static int receive(const struct scan_options *options, struct rpc_stream *stream, struct intake *intake,
                   struct failure *failure)
{
        const char *master = session_get_address(options->session, stream);
        struct wire_arena arena;
        int r;

        wire_arena_init(&arena, MESSAGE_MEMORY_MAX);
        for (;;) {
                Grpc__FileScanChunk *chunk;
                const uint8_t *data;
                size_t len;

                r = rpc_stream_receive(stream, &data, &len);
                if (r != RPC_MESSAGE)
                        break;
                atomic_fetch_add(&options->progress->bytes, len);
                chunk = (Grpc__FileScanChunk *)wire_unpack(&grpc__file_scan_chunk__descriptor,
                                                           &arena.allocator, data, len);
                r = chunk ? intake_take(intake, chunk, failure)
                          : failure_set(failure, -EPROTO,
                                        "the master's listing is refused: a malformed message");
                wire_arena_clear(&arena);
                if (r == 0)
                        r = check_version(options, intake, master, failure);
                if (r < 0)
                        break;
        }
        wire_arena_release(&arena);
        return r;
}

/* The exchange with the master, from the request to the stream's end; what came is in INTAKE. */
static int exchange(const struct scan_options *options, const struct scan_request *request,
                    struct intake *intake, const char **ret_master, struct failure *failure)
{
        struct rpc_stream *stream;
        struct failure ended = { 0 };
        int r = session_stream(options->session, WIRE_METHOD_SCAN, &stream, failure), status;

        if (r < 0)
                return r;
        *ret_master = session_get_address(options->session, stream);
        r = scan_send_request(options->session, stream, request);
        if (r >= 0)
                r = receive(options, stream, intake, failure);
        status = session_finish(options->session, stream, &ended);
        /* Our own verdict on what was received comes first; otherwise the status tells. */
        if (r < 0 && (failure->text[0] || r == -EBADMSG))
                return r;
        /* Our own master marks the end: what has come is all, however the call ends. */
        if (r >= 0 && status < 0 && session_get_dialect(options->session) == SESSION_OWN &&
            intake_get_state(intake) >= INTAKE_COMPLETE)
                return 0;
        if (status < 0) {
                *failure = ended;
                return status;
        }
        if (r < 0)
                return failure_set(failure, r, "the master's listing broke off: %s", strerror(-r));
        if (intake_get_state(intake) < INTAKE_COMPLETE)
                return failure_set(failure, -EPROTO, "the master's listing broke off before its end");
        return 0;
}

/* ---- as often as it takes ---- */

struct scan {
        const struct scan_options *options;
        struct scan_result *result;
        struct failure *failure;
        struct intake *intake; /* owned; one try's, over all its reconnections */
        struct catalog_version known;
        bool full; /* ask for everything, whatever the catalog holds */
        unsigned overtaken;
};

static bool can_ask_for_difference(const struct scan *scan)
{
        return scan->known.valid && !scan->known.loading && !scan->full;
}

/* Where an earlier transfer, of this run or one before, has got to. */
static void set_resume(const struct scan *scan, struct scan_request *request)
{
        struct catalog_load_target target;
        uint64_t base;

        if (intake_can_resume(scan->intake, &base, &request->resume_revision, &request->resume_offset))
                return;
        if (!scan->full && catalog_get_load(scan->options->catalog, &target)) {
                request->resume_revision = target.revision;
                request->resume_offset = target.offset;
        }
}

static bool is_broken(int error)
{
        return error == -EHOSTUNREACH || error == -ETIMEDOUT || error == -EPIPE;
}

/* An intake that nothing has come to yet. */
static int renew_intake(struct scan *scan)
{
        const struct intake_options options = {
                .session = scan->options->session,
                .catalog = scan->options->catalog,
                .store = scan->options->store,
                .progress = scan->options->progress,
        };

        intake_free(TAKE_PTR(scan->intake));
        return intake_new(&options, &scan->intake);
}

/* A connection that breaks is worth another try: once for nothing (a master that was restarted shows so), then as often as it brings something. */
static int exchange_resumed(struct scan *scan)
{
        const struct scan_options *o = scan->options;
        uint64_t before = 0, base, revision, offset;
        bool tried = false;

        for (;;) {
                struct scan_request request = { .stat_pass = o->stat_pass };
                int r;

                if (can_ask_for_difference(scan))
                        request.known = &scan->known;
                set_resume(scan, &request);
                *scan->failure = (struct failure){ 0 };
                r = exchange(o, &request, scan->intake, &scan->result->master, scan->failure);
                if (!is_broken(r))
                        return r;
                offset = 0;
                if (intake_can_resume(scan->intake, &base, &revision, &offset) && offset > before) {
                        before = offset;
                        scan->result->resumed++;
                } else if (tried) {
                        return r;
                } else {
                        tried = true;
                }
                progress_enter(o->progress, PROGRESS_WAITING);
                r = session_reconnect(o->session, scan->failure);
                if (r == 0 && offset == 0)
                        r = renew_intake(scan); /* the next answer begins at its beginning */
                if (r < 0)
                        return r;
        }
}

static int take_unchanged(struct scan *scan)
{
        const struct catalog_version *known = &scan->known;
        uint8_t digest[HASH_BYTES];

        intake_get_digest(scan->intake, digest);
        if (!can_ask_for_difference(scan) || memcmp(digest, known->digest, HASH_BYTES) != 0)
                return failure_set(
                        scan->failure, -EPROTO,
                        "the master's answer is refused: 'unchanged' to a worker that has another version");
        scan->result->unchanged = true;
        return catalog_touch(scan->options->catalog, intake_get_revision(scan->intake));
}

/* One try. CATALOG_MISMATCH: what came does not add up. -ESTALE: the master has gone on meanwhile. */
static int scan_once(struct scan *scan)
{
        const struct scan_options *o = scan->options;
        int r = renew_intake(scan);

        if (r < 0)
                return r;
        catalog_get_version(o->catalog, &scan->known);
        progress_enter(o->progress, PROGRESS_WAITING);
        r = exchange_resumed(scan);
        if (r == 0 && intake_get_state(scan->intake) == INTAKE_UNCHANGED)
                r = take_unchanged(scan);
        else if (r == 0 && o->preview)
                r = intake_preview(scan->intake, o->preview, scan->failure);
        else if (r == 0)
                r = intake_commit(scan->intake, scan->overtaken + 1 == OVERTAKEN_MAX, &scan->result->intake,
                                  scan->failure);
        intake_free(TAKE_PTR(scan->intake));
        return r == -EBADMSG ? CATALOG_MISMATCH : r;
}

int scan_run(const struct scan_options *options, struct scan_result *ret, struct failure *failure)
{
        struct scan scan = { .options = options, .result = ret, .failure = failure };
        int r;

        *ret = (struct scan_result){ 0 };
        progress_enter(options->progress, PROGRESS_CONNECTING);
        r = session_connect(options->session, failure);
        while (r == 0) {
                r = scan_once(&scan);
                if (r == -ESTALE && ++scan.overtaken < OVERTAKEN_MAX) {
                        r = 0;
                        continue;
                }
                if (r != CATALOG_MISMATCH)
                        break;
                if (ret->fell_back) {
                        r = failure_set(
                                failure, -EPROTO,
                                "the master's listing is refused: it does not add up to its own digest");
                        break;
                }
                ret->fell_back = scan.full = true;
                log_warning("the tree of %s does not have the digest its master states: asking for it again, "
                            "in full",
                            session_get_source(options->session)->text);
                r = 0;
        }
        progress_enter(options->progress, PROGRESS_IDLE);
        return r;
}
