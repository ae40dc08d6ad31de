/*
 * Attend: a mount says which version it shows, for as long as it is there, and is told when this master closes. Nothing is looked up for it: a mount that
 * only attends keeps no workspace awake.
 */
#include <string.h>

#include "base/log.h"
#include "base/path.h"
#include "proto/wire.h"
#include "proto/workspace.pb-c.h"
#include "server/access.h"
#include "server/fleet.h"
#include "server/master.h"
#include "server/service_workspace.h"

#define PRESENCE_MAX ((size_t)64 << 10) /* unpacked */

/* Owned by its event thread. */
struct attend_call {
        struct rpc_call *call; /* referenced, for `entry` */
        struct master *master;
        struct watches_call entry;
        struct worker *worker;
        struct fleet_member *member; /* since the first message */
        struct wire_arena arena;
        bool closing; /* the notice is on its way */
        bool ended;   /* the call has its status */
};

static int attend_start(struct rpc_call *call, void *service, void **ret_state)
{
        struct attend_call *a = calloc(1, sizeof(*a));

        if (!a)
                return -ENOMEM;
        a->call = a->entry.call = rpc_call_ref(call);
        a->master = service;
        wire_arena_init(&a->arena, PRESENCE_MAX);
        watches_add(a->master->watches, &a->entry);
        rpc_call_receive(call);
        *ret_state = a;
        return 0;
}

static void end(struct attend_call *a, enum rpc_code code, const char *text)
{
        a->ended = true;
        rpc_call_finish(a->call, code, text);
}

/* ---- who comes ---- */

static void take_text(char ret[FLEET_TEXT_MAX], const char *text)
{
        snprintf(ret, FLEET_TEXT_MAX, "%s", text);
        log_make_printable(ret);
}

/* The path as a string of its own, or NULL: it makes no sense, or no memory. */
static char *take_path(const Fsyncfs__V1__Presence *m)
{
        const ProtobufCBinaryData *raw = &m->raw_path;
        char *path;

        if (raw->len > 0 && (m->path[0] || memchr(raw->data, '\0', raw->len)))
                return NULL;
        path = raw->len > 0 ? strndup((const char *)raw->data, raw->len) : strdup(m->path);
        if (path && path_check(path, strlen(path)) < 0) {
                free(path);
                path = NULL;
        }
        return path;
}

static int join(struct attend_call *a, const Fsyncfs__V1__Presence *m)
{
        _cleanup_free_ char *path = take_path(m);
        struct fleet_mount mount = { .path = path };
        char key[ACCESS_NAME_MAX];

        if (!path || path_check_name(m->spider_id, strlen(m->spider_id)) < 0)
                return -EINVAL;
        strcpy(mount.spider, m->spider_id);
        take_text(mount.node, m->node_name);
        take_text(mount.version, m->version);
        take_text(mount.address, rpc_call_peer(a->call));
        take_text(mount.key, access_name(a->master->tokens, rpc_call_pass(a->call), key));
        a->worker = workers_enter(a->master->workers, m->node_key);
        a->member = fleet_join(a->master->fleet, &mount);
        return a->member ? 0 : -ENOMEM;
}

static int take_presence(struct attend_call *a, const uint8_t *data, size_t len)
{
        const Fsyncfs__V1__Presence *m = (const Fsyncfs__V1__Presence *)wire_unpack(
                &fsyncfs__v1__presence__descriptor, &a->arena.allocator, data, len);
        uint8_t digest[HASH_BYTES];
        int r = 0;

        if (!m || (m->digest.len != 0 && hash_of_len(m->digest.len) == HASH_NONE))
                return -EINVAL;
        if (!a->member)
                r = join(a, m);
        if (r == 0 && m->digest.len > 0) {
                hash_take(digest, m->digest.data, m->digest.len);
                fleet_show(a->master->fleet, a->member, digest, m->revision);
        }
        return r;
}

/* If this master closes. */
static void attend_wake(struct rpc_call *call, void *state)
{
        static const uint8_t closing[] = { 1 << 3, 1 }; /* a Notice with `closing` */
        struct attend_call *a = state;

        if (a->ended || a->closing || !watches_stopping(a->master->watches))
                return;
        a->closing = true;
        rpc_call_send(call, &(struct rpc_frame){ .head = closing, .head_len = sizeof(closing) });
}

static void attend_message(struct rpc_call *call, void *state, const uint8_t *data, size_t len)
{
        struct attend_call *a = state;
        int r = take_presence(a, data, len);

        wire_arena_clear(&a->arena);
        if (a->ended)
                return;
        if (r == -EINVAL)
                end(a, RPC_INVALID_ARGUMENT, "not a valid Presence");
        else if (r < 0)
                end(a, RPC_RESOURCE_EXHAUSTED, "no memory");
        else
                rpc_call_receive(call);
        attend_wake(call, a);
}

static void attend_half_close(struct rpc_call *call, void *state)
{
        end(state, RPC_OK, NULL);
}

static void attend_writable(struct rpc_call *call, void *state)
{
        end(state, RPC_UNAVAILABLE, "this master is shutting down");
}

static void attend_closed(struct rpc_call *call, void *state)
{
        struct attend_call *a = state;

        watches_remove(a->master->watches, &a->entry);
        fleet_leave(a->master->fleet, a->member);
        workers_leave(a->master->workers, a->worker);
        wire_arena_release(&a->arena);
        rpc_call_unref(a->call);
        free(a);
}

const struct rpc_call_ops service_attend_ops = {
        .start = attend_start,
        .message = attend_message,
        .half_close = attend_half_close,
        .writable = attend_writable,
        .wake = attend_wake,
        .closed = attend_closed,
};
