/*
 * Answers to our own workers: "unchanged", the difference from the version they have, or everything; as plain entries or as packs.
 */
#include <string.h>

#include "base/log.h"
#include "proto/wire.h"
#include "server/metrics.h"
#include "server/sync_call.h"

/* A chunk that is nothing but its head. */
static void send_head(struct sync_call *s, const struct wire_scan_head *chunk)
{
        uint8_t *head = malloc(WIRE_SCAN_HEAD_MAX);

        if (head)
                sync_call_send(s, head, wire_scan_head(head, chunk), chunk->is_complete);
        else
                rpc_call_finish(s->call, RPC_RESOURCE_EXHAUSTED, "no memory");
}

static void send_heartbeat(struct sync_call *s)
{
        int64_t now = clock_monotonic_ns();

        if (now - s->spoke_ns < PARKED_QUIET_NS)
                return;
        s->spoke_ns = now;
        sync_call_send(s, NULL, 0, false);
}

/* ---- what to send ---- */

static enum spool_form form_of(enum transfer_strategy asked)
{
        switch (asked) {
        case STRATEGY_CHANGES:
                return SPOOL_PLAIN;
        case STRATEGY_BATCHES:
        case STRATEGY_SNAPSHOT:
                return SPOOL_PACKS;
        default:
                return SPOOL_AUTO;
        }
}

/* Why the worker gets everything; NULL: the difference will do. PRESENT: the revision that is sent. */
static const char *why_everything(const struct sync_call *s, uint64_t present)
{
        const struct sync_request *request = &s->request;

        if (!request->has_known)
                return "it has nothing";
        if (request->strategy == STRATEGY_SNAPSHOT)
                return "it asks for everything";
        if (request->known_revision == 0 || request->known_revision >= present)
                return "its version is not one of this master's";
        return s->too_old ? "the journal does not reach back to its version" : NULL;
}

/* From the worker's version, unless it must have everything, to revision PRESENT. */
static struct spool_key make_key(struct sync_call *s, uint64_t present)
{
        const struct sync_request *request = &s->request;
        struct spool_key key = {
                .spider = request->spider,
                .path = request->path,
                .form = form_of(request->strategy),
                .revision = present,
                .peer = rpc_call_account(s->call),
        };

        s->reason = why_everything(s, present);
        if (s->reason)
                return key;
        key.base = request->known_revision;
        /* Of a folder within a workspace the journal keeps no digests. */
        if (request->path[0] == '\0')
                key.base_digest = request->known;
        return key;
}

/* Takes VIEW over; NULL: only a spool that is there will do. */
static int begin_transfer(struct sync_call *s, uint64_t revision, struct tree_view *view)
{
        const struct sync_request *request = &s->request;
        struct spool_key key = make_key(s, revision);
        uint64_t offset = revision == request->resume_revision ? request->resume_offset : 0;
        struct spool *spool;
        int r;

        r = spools_get(s->master->spools, &key, view, &spool);

        if (r >= 0)
                transfer_begin(&s->transfer, s->call, spool, offset, request->strategy);
        return r;
}

static void ask(struct sync_call *s)
{
        sync_call_park(s);
        s->asked = true;
        sync_call_ask(s, s->request.stat_pass ? VERSIONS_STAT_PASS : VERSIONS_FRESH, 0);
}

void sync_own_begin(struct sync_call *s)
{
        const struct sync_request *request = &s->request;

        /* What broke off goes on, although there may be a newer version: the worker asks for that afterwards. */
        if (request->resume_revision > 0 && begin_transfer(s, request->resume_revision, NULL) >= 0) {
                sync_own_step(s, false);
                return;
        }
        ask(s);
}

/* The version of the folder asked for. */
static int look_up(const struct sync_request *request, struct tree_view *view, uint8_t ret_digest[HASH_BYTES],
                   size_t *ret_len)
{
        struct tree_row row;
        int r = tree_view_find(view, request->path, strlen(request->path), &row);

        if (r < 0)
                return r;
        if (r != TREE_OK)
                return -ENOENT;
        if (row.unknown)
                return -EIO;
        if (row.kind != ENTRY_DIRECTORY)
                return -ENOTDIR;
        tree_row_root_digest(&row, ret_digest);
        *ret_len = hash_len(row.hash);
        return 0;
}

void sync_own_answered(struct sync_call *s)
{
        const struct sync_request *request = &s->request;
        uint8_t digest[HASH_BYTES];
        size_t digest_len;
        uint64_t revision;
        int r = s->asking.error;

        if (r >= 0)
                r = look_up(request, s->asking.view, digest, &digest_len);
        if (r < 0) {
                sync_call_fail(s, r);
                return;
        }
        revision = tree_view_version(s->asking.view)->revision;
        if (request->has_known && memcmp(request->known, digest, HASH_BYTES) == 0) {
                asking_put_view(&s->asking);
                sync_call_unpark(s);
                send_head(s, &(struct wire_scan_head){
                                     .is_complete = true,
                                     .unchanged = true,
                                     .root_digest = digest,
                                     .root_digest_len = digest_len,
                                     .revision = revision,
                             });
                return;
        }
        r = begin_transfer(s, revision, TAKE_PTR(s->asking.view));
        if (r < 0)
                sync_call_fail(s, r);
        else
                sync_own_step(s, false);
}

/* ---- sending ---- */

/* The transfer has failed. The view it was made from is gone, but the present version is no older. */
static void transfer_failed(struct sync_call *s, int error)
{
        if (error != -ESTALE || s->reason) {
                sync_call_fail(s, error);
                return;
        }
        s->too_old = true;
        transfer_release(&s->transfer);
        if (s->asked)
                sync_call_ask(s, VERSIONS_RECENT, ASKING_ANY_AGE);
        else
                ask(s);
}

void sync_own_step(struct sync_call *s, bool woken)
{
        int r = s->transfer.spool ? transfer_send(&s->transfer) : TRANSFER_WAIT;

        if (r < 0) {
                transfer_failed(s, r);
        } else if (r == TRANSFER_WAIT) {
                sync_call_park(s);
                if (woken)
                        send_heartbeat(s);
        } else {
                sync_call_unpark(s);
                s->sending = true;
                s->complete = r == TRANSFER_LAST;
        }
}

void sync_own_end(struct sync_call *s)
{
        const struct transfer *t = &s->transfer;
        const struct sync_request *request = &s->request;
        struct spool_state state;

        if (!t->spool) {
                log_debug("%s: %s is unchanged", rpc_call_peer(s->call), request->spider);
                return;
        }
        spool_get_state(t->spool, &state);
        metrics_add(state.base > 0 ? METRIC_DELTAS : METRIC_FULL_LISTINGS, 1);
        log_info("%s: %s%s%s: %s to revision %llu as %s: %llu entries, %llu bytes%s%s",
                 rpc_call_peer(s->call), request->spider, request->path[0] ? "/" : "", request->path,
                 state.base > 0 ? "difference" : "everything", (unsigned long long)state.revision,
                 transfer_strategy_name(transfer_get_strategy(t)), (unsigned long long)t->entries,
                 (unsigned long long)t->bytes, s->reason ? ": " : "", s->reason ?: "");
}

void sync_own_clear(struct sync_call *s)
{
        transfer_release(&s->transfer);
        s->reason = NULL;
        s->too_old = s->asked = false;
}
