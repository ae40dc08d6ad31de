#include "server/transfer.h"

#include "base/util.h"
#include "proto/rpc_peer.h"
#include "proto/wire.h"
#include "server/metrics.h"

const char *transfer_strategy_name(enum transfer_strategy strategy)
{
        static const char *const names[] = { "nothing", "changes", "batches", "snapshot" };

        return names[strategy];
}

static void wake_call(struct spool_waiter *waiter)
{
        rpc_call_wake(((struct transfer *)((char *)waiter - offsetof(struct transfer, waiter)))->call);
}

void transfer_begin(struct transfer *t, struct rpc_call *call, struct spool *spool, uint64_t offset,
                    enum transfer_strategy asked)
{
        *t = (struct transfer){
                .call = call,
                .spool = spool,
                .waiter = { .wake = wake_call },
                .asked = asked,
                .offset = offset,
        };
        rpc_peer_charge(rpc_call_account(call), RPC_LISTINGS, 1); /* there is no limit: the spools have one */
}

void transfer_release(struct transfer *t)
{
        if (!t->spool)
                return;
        spool_forget(t->spool, &t->waiter);
        spool_put(TAKE_PTR(t->spool));
        rpc_peer_discharge(rpc_call_account(t->call), RPC_LISTINGS, 1);
}

static enum transfer_strategy strategy_of(const struct transfer *t, const struct spool_state *state)
{
        if (!state->decided)
                return STRATEGY_AUTO;
        if (state->plain)
                return STRATEGY_CHANGES;
        return state->base > 0 || t->asked == STRATEGY_BATCHES ? STRATEGY_BATCHES : STRATEGY_SNAPSHOT;
}

enum transfer_strategy transfer_get_strategy(const struct transfer *t)
{
        struct spool_state state;

        spool_get_state(t->spool, &state);
        return strategy_of(t, &state);
}

static struct wire_scan_head describe(const struct transfer *t, const struct spool_state *state,
                                      const struct spool_piece *piece)
{
        /* The building may have failed since this piece was read: the next read says so. */
        const bool complete = state->complete && state->error == 0;
        struct wire_scan_head chunk = {
                .is_complete = complete && piece->next == state->bytes,
                .root_digest = state->root_digest,
                .root_digest_len = state->root_digest_len,
                .revision = state->revision,
                .base_revision = state->base,
                .strategy = strategy_of(t, state),
                .total_entries = state->entries,
        };

        if (state->plain)
                return chunk;
        chunk.total_bytes = complete ? state->bytes : 0;
        chunk.offset = t->offset;
        chunk.next_offset = piece->next;
        chunk.pack_len = piece->len;
        return chunk;
}

/* PIECE's data are taken over. */
static int send_piece(struct transfer *t, const struct spool_piece *piece)
{
        struct spool_state state;
        struct wire_scan_head chunk;
        uint8_t head[WIRE_SCAN_HEAD_MAX];
        size_t head_len;

        spool_get_state(t->spool, &state);
        chunk = describe(t, &state, piece);
        head_len = wire_scan_head(head, &chunk);
        t->offset = piece->next;
        t->entries += piece->entries;
        t->bytes += head_len + piece->len;
        metrics_add(METRIC_ENTRIES_SENT, piece->entries);
        metrics_add(METRIC_METADATA_BYTES_SENT, head_len + piece->len);
        rpc_call_send(t->call, &(struct rpc_frame){
                                       .head = head,
                                       .head_len = head_len,
                                       .body = piece->data,
                                       .body_len = piece->len,
                                       .release = free,
                                       .release_arg = piece->data,
                               });
        return chunk.is_complete ? TRANSFER_LAST : TRANSFER_SENT;
}

int transfer_send(struct transfer *t)
{
        struct spool_piece piece = { 0 };
        int r = spool_read(t->spool, t->offset, &t->waiter, &piece);

        if (r == -EINVAL && t->bytes == 0 && t->offset > 0) {
                t->offset = 0; /* what the worker wants to go on with is not what this is */
                r = spool_read(t->spool, t->offset, &t->waiter, &piece);
        }
        if (r == 1)
                return TRANSFER_WAIT;
        if (r == -ENODATA) {
                piece.next = t->offset;
                r = 0;
        }
        return r < 0 ? r : send_piece(t, &piece);
}
