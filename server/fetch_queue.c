#include "server/fetch_queue.h"

#include <string.h>

#include <utlist.h>

#include "base/lock.h"
#include "base/path.h"
#include "base/pieces.h"
#include "base/util.h"

#define BUCKETS 512

struct fetch_queue {
        struct rpc_peer *peer; /* borrowed */
        struct mutex lock;
        struct fetch_item *lines[2] TSA_GUARDED(lock); /* those that are not urgent, those that are */
        struct fetch_item *held TSA_GUARDED(lock);
        unsigned count TSA_GUARDED(lock);
        uint64_t releases TSA_GUARDED(lock);
        struct fetch_item *buckets[BUCKETS] TSA_GUARDED(lock); /* by id */
};

int fetch_queue_new(struct rpc_peer *peer, struct fetch_queue **ret)
{
        struct fetch_queue *queue = calloc(1, sizeof(*queue));

        if (!queue)
                return -ENOMEM;
        queue->peer = peer;
        mutex_init(&queue->lock);
        *ret = queue;
        return 0;
}

/* What ITEM takes of the memory that its peer may have taken. */
static size_t item_bytes(const struct fetch_item *item)
{
        return sizeof(*item) + strlen(item->path) + 1;
}

static void item_free(struct fetch_queue *queue, struct fetch_item *item)
{
        if (!item)
                return;
        rpc_peer_discharge(queue->peer, RPC_WANTS, item_bytes(item));
        free(item);
}

static void free_list(struct fetch_queue *queue, struct fetch_item *list)
{
        struct fetch_item *item, *next;

        DL_FOREACH_SAFE (list, item, next)
                item_free(queue, item);
}

void fetch_queue_free(struct fetch_queue *queue)
{
        if (!queue)
                return;
        mutex_lock(&queue->lock);
        free_list(queue, queue->held);
        for (size_t i = 0; i < ARRAY_SIZE(queue->lines); i++)
                free_list(queue, queue->lines[i]);
        mutex_unlock(&queue->lock);
        mutex_release(&queue->lock);
        free(queue);
}

/* ---- by id ---- */

static struct fetch_item **find_locked(struct fetch_queue *queue, uint64_t id) TSA_REQUIRES(queue->lock)
{
        struct fetch_item **at = &queue->buckets[id % BUCKETS];

        while (*at && (*at)->id != id)
                at = &(*at)->same_bucket;
        return at;
}

static void forget_locked(struct fetch_queue *queue, struct fetch_item *item) TSA_REQUIRES(queue->lock)
{
        if (item->known)
                *find_locked(queue, item->id) = item->same_bucket;
        item->known = false;
        queue->count--;
}

static void put_first_locked(struct fetch_queue *queue, struct fetch_item *item) TSA_REQUIRES(queue->lock)
{
        item->place = FETCH_IN_LINE;
        DL_PREPEND(queue->lines[item->urgent], item);
}

/* ---- adding ---- */

static const char *refusal(const struct fetch_want *want)
{
        enum hash_algorithm algorithm = (enum hash_algorithm)want->hash_algorithm,
                            base = hash_base(algorithm);

        if (want->id == 0)
                return "0 is no id";
        if (!hash_is_base(base) || algorithm != content_algorithm(base, want->size) ||
            want->digest_len != hash_len(algorithm))
                return "not a digest by the algorithm for that size";
        if (want->two_paths || want->path_len == 0 ||
            path_check((const char *)want->path, want->path_len) < 0)
                return "not a path within a workspace";
        if (want->size > INT64_MAX)
                return "not a size";
        return NULL;
}

static struct fetch_item *item_new(const struct fetch_want *want)
{
        const char *refused = refusal(want);
        size_t path_len = refused ? 0 : want->path_len;
        struct fetch_item *item = malloc(sizeof(*item) + path_len + 1);

        if (!item)
                return NULL;
        *item = (struct fetch_item){ .id = want->id, .refused = refused, .urgent = want->urgent };
        if (path_len > 0)
                memcpy(item->path, want->path, path_len);
        item->path[path_len] = '\0';
        if (refused)
                return item;
        item->content.algorithm = (enum hash_algorithm)want->hash_algorithm;
        item->list = want->list && hash_by_pieces(item->content.algorithm);
        hash_take(item->content.bytes, want->digest, want->digest_len);
        item->size = want->size;
        item->begin = item->offset = want->offset;
        item->end = want->length > 0 && want->offset < want->size && want->length < want->size - want->offset
                            ? want->offset + want->length
                            : want->size;
        return item;
}

int fetch_queue_add(struct fetch_queue *queue, const struct fetch_want *want)
{
        struct fetch_item *item = item_new(want), **bucket;
        int r = 0;

        if (!item)
                return -ENOMEM;
        if (!rpc_peer_charge(queue->peer, RPC_WANTS, item_bytes(item))) {
                free(item);
                return -EBUSY;
        }
        mutex_lock(&queue->lock);
        bucket = find_locked(queue, item->id);
        if (queue->count == FETCH_QUEUE_MAX) {
                r = -EBUSY;
        } else {
                if (*bucket && !item->refused)
                        item->refused = "the id is in use";
                if (!*bucket) {
                        item->known = true;
                        *bucket = item;
                }
                item->place = FETCH_IN_LINE;
                DL_APPEND(queue->lines[item->urgent], item);
                queue->count++;
        }
        mutex_unlock(&queue->lock);
        if (r < 0)
                item_free(queue, item);
        return r;
}

void fetch_queue_cancel(struct fetch_queue *queue, uint64_t id)
{
        struct fetch_item *item, *gone = NULL;

        mutex_lock(&queue->lock);
        item = *find_locked(queue, id);
        if (item)
                item->cancelled = true;
        if (item && item->place == FETCH_HELD && item->file) {
                DL_DELETE(queue->held, item);
                put_first_locked(queue, item);
        } else if (item && item->place != FETCH_TAKEN && !item->file) {
                if (item->place == FETCH_HELD)
                        DL_DELETE(queue->held, item);
                else
                        DL_DELETE(queue->lines[item->urgent], item);
                forget_locked(queue, item);
                gone = item;
        }
        mutex_unlock(&queue->lock);
        item_free(queue, gone);
}

void fetch_queue_hurry(struct fetch_queue *queue, uint64_t id)
{
        struct fetch_item *item;

        mutex_lock(&queue->lock);
        item = *find_locked(queue, id);
        if (item && !item->urgent) {
                if (item->place == FETCH_IN_LINE) {
                        DL_DELETE(queue->lines[false], item);
                        DL_APPEND(queue->lines[true], item);
                }
                item->urgent = true;
        }
        mutex_unlock(&queue->lock);
}

unsigned fetch_queue_count(struct fetch_queue *queue)
{
        unsigned count;

        mutex_lock(&queue->lock);
        count = queue->count;
        mutex_unlock(&queue->lock);
        return count;
}

bool fetch_queue_is_ready(struct fetch_queue *queue)
{
        bool ready;

        mutex_lock(&queue->lock);
        ready = queue->lines[0] || queue->lines[1];
        mutex_unlock(&queue->lock);
        return ready;
}

/* ---- serving ---- */

struct fetch_item *fetch_queue_take(struct fetch_queue *queue, uint64_t *ret_ticket)
{
        struct fetch_item *item;

        mutex_lock(&queue->lock);
        item = queue->lines[true] ?: queue->lines[false];
        if (item) {
                DL_DELETE(queue->lines[item->urgent], item);
                item->place = FETCH_TAKEN;
                item->dropped = item->cancelled;
        }
        *ret_ticket = queue->releases;
        mutex_unlock(&queue->lock);
        return item;
}

void fetch_queue_put_first(struct fetch_queue *queue, struct fetch_item *item)
{
        mutex_lock(&queue->lock);
        put_first_locked(queue, item);
        mutex_unlock(&queue->lock);
}

void fetch_queue_put_last(struct fetch_queue *queue, struct fetch_item *item)
{
        mutex_lock(&queue->lock);
        item->place = FETCH_IN_LINE;
        DL_APPEND(queue->lines[item->urgent], item);
        mutex_unlock(&queue->lock);
}

void fetch_queue_hold(struct fetch_queue *queue, struct fetch_item *item, uint64_t ticket)
{
        mutex_lock(&queue->lock);
        if (ticket != queue->releases) {
                put_first_locked(queue, item);
        } else {
                item->place = FETCH_HELD;
                DL_APPEND(queue->held, item);
        }
        mutex_unlock(&queue->lock);
}

void fetch_queue_finish(struct fetch_queue *queue, struct fetch_item *item)
{
        mutex_lock(&queue->lock);
        forget_locked(queue, item);
        mutex_unlock(&queue->lock);
        item_free(queue, item);
}

/* The one held shortest first: so the one held longest is first in its line in the end. */
void fetch_queue_release_all(struct fetch_queue *queue)
{
        mutex_lock(&queue->lock);
        queue->releases++;
        while (queue->held) {
                struct fetch_item *item = queue->held->prev; /* utlist: the head's is the last one */

                DL_DELETE(queue->held, item);
                put_first_locked(queue, item);
        }
        mutex_unlock(&queue->lock);
}

void fetch_queue_release_one(struct fetch_queue *queue)
{
        struct fetch_item *item;

        mutex_lock(&queue->lock);
        queue->releases++;
        item = queue->held;
        if (item) {
                DL_DELETE(queue->held, item);
                put_first_locked(queue, item);
        }
        mutex_unlock(&queue->lock);
}
