#include "server/sync_request.h"

#include <string.h>

#include "base/path.h"
#include "proto/sync_service.pb-c.h"
#include "proto/wire.h"

#define REQUEST_MAX 65536 /* bytes of an unpacked request: a path and some names */

static int take_own(struct sync_request *r, const Grpc__FileSyncRequest *message)
{
        size_t len = message->known_digest.len;

        if ((len != 0 && hash_of_len(len) == HASH_NONE) || message->strategy > STRATEGY_SNAPSHOT ||
            message->resume_offset > INT64_MAX)
                return -EBADMSG;
        r->has_known = len > 0;
        if (r->has_known) {
                hash_take(r->known, message->known_digest.data, len);
                r->known_revision = message->known_revision;
        }
        r->strategy = (enum transfer_strategy)message->strategy;
        r->resume_revision = message->resume_revision;
        r->resume_offset = message->resume_revision > 0 ? message->resume_offset : 0;
        r->stat_pass = message->stat_pass;
        return 0;
}

static int take(struct sync_request *r, const Grpc__FileSyncRequest *message)
{
        const char *path = message->path;

        r->own = message->fsyncfs_protocol != 0;
        if (!r->own && strcmp(path, ".") == 0)
                path = ""; /* what stock listings call the root */
        r->spider = strdup(message->spider_id);
        r->path = strdup(path);
        r->node_key = strdup(message->node_key);
        if (!r->spider || !r->path || !r->node_key)
                return -ENOMEM;
        return r->own ? take_own(r, message) : 0;
}

int sync_request_read(struct sync_request *ret, const uint8_t *data, size_t len)
{
        struct sync_request request = { 0 };
        Grpc__FileSyncRequest *message;
        struct wire_arena arena;
        int r;

        wire_arena_init(&arena, REQUEST_MAX);
        message = (Grpc__FileSyncRequest *)wire_unpack(&grpc__file_sync_request__descriptor, &arena.allocator,
                                                       data, len);
        r = message ? take(&request, message) : -EBADMSG;
        wire_arena_release(&arena);
        if (r < 0)
                sync_request_clear(&request);
        else
                *ret = request;
        return r;
}

int sync_request_check(const struct sync_request *request)
{
        int r = path_check_name(request->spider, strlen(request->spider));

        return r < 0 ? r : path_check(request->path, strlen(request->path));
}

void sync_request_clear(struct sync_request *request)
{
        free(request->spider);
        free(request->path);
        free(request->node_key);
        *request = (struct sync_request){ 0 };
}
