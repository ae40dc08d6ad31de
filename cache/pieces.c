#include "cache/pieces.h"

#include <fcntl.h>

#include "base/log.h"
#include "cache/pieces_private.h"

/* ---- the table ---- */

int pieces_table_new(struct store *store)
{
        struct pieces_table *table = calloc(1, sizeof(*table));

        if (!table)
                return -ENOMEM;
        mutex_init(&table->lock);
        condition_init(&table->released);
        store->pieces = table;
        return 0;
}

void pieces_table_free(struct store *store)
{
        struct pieces_table *table = store->pieces;

        if (!table)
                return;
        assert(!table->all);
        condition_release(&table->released);
        mutex_release(&table->lock);
        free(table);
        store->pieces = NULL;
}

void pieces_interrupt(struct store *store)
{
        mutex_lock(&store->pieces->lock);
        condition_broadcast(&store->pieces->released);
        mutex_unlock(&store->pieces->lock);
}

static struct store_pieces *find_locked(struct store *store, const struct content_id *id)
        TSA_REQUIRES(store->pieces->lock)
{
        struct store_pieces *found;

        HASH_FIND(hh, store->pieces->all, id, sizeof(*id), found);
        if (found)
                found->refs++;
        return found;
}

/* PIECES, or, if another thread was quicker, the handle that it put in, and PIECES is freed; NULL, and freed likewise: no memory. */
static struct store_pieces *put_in(struct store_pieces *pieces)
{
        struct store *store = pieces->store;
        struct store_pieces *found;

        mutex_lock(&store->pieces->lock);
        found = find_locked(store, &pieces->id);
        if (!found) {
                HASH_ADD(hh, store->pieces->all, id, sizeof(pieces->id), pieces);
                if (pieces->hh.tbl)
                        found = pieces;
        }
        mutex_unlock(&store->pieces->lock);
        if (found != pieces)
                store_pieces_unref(pieces);
        return found;
}

/* ---- the file ---- */

/* A part and what it counts for change together (S7): the folder of the blob is locked. */
struct opening {
        struct store *store;
        const struct content_id *id;
        struct part_layout layout;
        int dirfd, fd;  /* FD: owned */
        int64_t charge; /* what is to be added to the count */
        struct usage_turn turn;
        bool made;    /* it was not there */
        bool revived; /* the cache folder was made anew */
        char path[PART_PATH_MAX];
};

/* A publication that was cut short by its process's death (P4). It may be an earlier boot's: store_get finds out. */
static int finish_publication(struct opening *o)
{
        char blob[STORE_BLOB_PATH_MAX];

        store_blob_path(o->id, blob);
        o->turn.counted = false;
        if (fchmod(o->fd, 0400) < 0 || renameat(o->dirfd, o->path, o->dirfd, blob) < 0)
                return -errno;
        return STORE_HAVE;
}

static int throw_away(struct opening *o)
{
        o->turn.counted = false;
        return unlinkat(o->dirfd, o->path, 0) < 0 ? -errno : STORE_MISS;
}

static int open_file(struct opening *o, int more_flags)
{
        const int flags = O_RDWR | O_NOFOLLOW | O_CLOEXEC | more_flags;

        o->fd = openat(o->dirfd, o->path, flags | O_NOATIME);
        if (o->fd < 0 && errno == EPERM) /* another user's */
                o->fd = openat(o->dirfd, o->path, flags);
        return o->fd < 0 ? -errno : 0;
}

static int block_in_open(void *arg)
{
        return open_file(arg, 0);
}

/* Another process may just be looking whether the part is open (store_is_open_elsewhere): 0, -EBUSY if that does not end, and so on. */
static int open_in_time(struct opening *o)
{
        int r = open_file(o, O_NONBLOCK);

        return r == -EWOULDBLOCK ? store_wait_bounded(&o->store->patience, block_in_open, o) : r;
}

static int open_existing(struct opening *o)
{
        struct part_info info;
        int r = open_in_time(o);

        if (r == -ENOENT)
                return STORE_MISS;
        if (r == -EBUSY)
                return throw_away(o); /* that process was about to do it */
        if (r < 0)
                return r;
        r = part_read_info(o->fd, o->id->algorithm, o->layout.size, &info);
        if (r == 0)
                return info.whole ? finish_publication(o) : STORE_OK;
        if (r != -ENODATA)
                return r;
        close(take_fd(&o->fd));
        return throw_away(o);
}

static int make(struct opening *o)
{
        const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_NOATIME | O_CLOEXEC;
        char folder[3];
        int r;

        o->fd = openat(o->dirfd, o->path, flags, 0600);
        if (o->fd < 0 && errno == ENOENT) {
                snprintf(folder, sizeof(folder), "%.2s", o->path);
                if (mkdirat(o->dirfd, folder, 0700) < 0 && errno != EEXIST)
                        return -errno;
                o->fd = openat(o->dirfd, o->path, flags, 0600);
        }
        if (o->fd < 0)
                return -errno;
        o->made = true;
        r = part_format(o->fd, &o->layout);
        if (r < 0)
                unlinkat(o->dirfd, o->path, 0);
        else
                o->charge += (int64_t)part_tail_charge();
        return r;
}

/* STORE_OK and o->fd, STORE_HAVE, STORE_MISS, negative errno. Under the lock that an eviction needs: what it took nobody opens any more. */
static int open_part(struct opening *o, bool may_make)
{
        unsigned shard = usage_shard_of(o->id);
        int r;

        o->charge = 0;
        o->turn = usage_begin(o->store, shard);
        r = store_has(o->store, o->id) ? STORE_HAVE : open_existing(o);
        if (r == STORE_MISS && may_make)
                r = make(o);
        usage_end(o->store, shard, o->turn, o->charge, 0);
        if (r != STORE_OK)
                cleanup_close(&(int){ take_fd(&o->fd) });
        return r;
}

static int new_handle(const struct opening *o, struct store_pieces **ret)
{
        struct store_pieces *pieces = calloc(1, sizeof(*pieces));
        int r;

        if (!pieces) {
                close(o->fd);
                return -ENOMEM;
        }
        *pieces = (struct store_pieces){
                .store = o->store, .id = *o->id, .layout = o->layout, .fd = o->fd, .refs = 1
        };
        mutex_init(&pieces->list_lock);
        pieces->trusted = o->made || pieces_has_stamp(pieces) || store_is_open_elsewhere(o->fd);
        r = pieces_load_list(pieces);
        if (r < 0) {
                store_pieces_unref(pieces);
                return r;
        }
        *ret = pieces;
        return 0;
}

static int open_new(struct store *store, const struct content_id *id, uint64_t size, bool may_make,
                    struct store_pieces **ret)
{
        struct opening o = { .store = store, .id = id, .layout = part_layout(id->algorithm, size), .fd = -1 };
        struct stat st;
        int r;

        o.dirfd = store_blob_dir(store, id);
        part_path(id, o.path);
        do
                r = open_part(&o, may_make);
        while (r == -EEXIST || /* it was made meanwhile, by who has not got the lock either */
               (r == -ENOSPC && store_make_room(store, PIECES_MAKE_BYTES) == 0) ||
               (r == -ENOENT && !o.revived && (o.revived = store_revive(store) == 0)));
        if (r != STORE_OK)
                return r;
        if (fstat(o.fd, &st) == 0)
                store_touch(o.fd, &st);
        return new_handle(&o, ret);
}

/* ---- handles ---- */

int store_pieces_open(struct store *store, const struct content_id *id, uint64_t size, bool make,
                      struct store_pieces **ret)
{
        struct store_pieces *pieces;
        int r;

        if (!hash_by_pieces(id->algorithm) || size == 0)
                return -EINVAL;
        if (size > STORE_SIZE_LIMIT)
                return -EFBIG;
        if (store_has(store, id))
                return STORE_HAVE;
        mutex_lock(&store->pieces->lock);
        pieces = find_locked(store, id);
        mutex_unlock(&store->pieces->lock);
        if (!pieces) {
                r = open_new(store, id, size, make, &pieces);
                if (r != STORE_OK)
                        return r;
                pieces = put_in(pieces);
                if (!pieces)
                        return -ENOMEM;
        }
        if (pieces->layout.size != size) {
                store_pieces_unref(pieces);
                return -EINVAL;
        }
        pieces_finish(pieces);
        *ret = pieces;
        return STORE_OK;
}

struct store_pieces *store_pieces_ref(struct store_pieces *pieces)
{
        mutex_lock(&pieces->store->pieces->lock);
        pieces->refs++;
        mutex_unlock(&pieces->store->pieces->lock);
        return pieces;
}

static void take_out_locked(struct store_pieces *pieces) TSA_REQUIRES(pieces->store->pieces->lock)
{
        struct store_pieces *found;

        HASH_FIND(hh, pieces->store->pieces->all, &pieces->id, sizeof(pieces->id), found);
        if (found == pieces)
                HASH_DEL(pieces->store->pieces->all, pieces);
}

static void take_out(struct store_pieces *pieces)
{
        mutex_lock(&pieces->store->pieces->lock);
        take_out_locked(pieces);
        mutex_unlock(&pieces->store->pieces->lock);
}

static bool drop_ref(struct store_pieces *pieces)
{
        bool last;

        mutex_lock(&pieces->store->pieces->lock);
        last = --pieces->refs == 0;
        if (last)
                take_out_locked(pieces);
        mutex_unlock(&pieces->store->pieces->lock);
        return last;
}

void store_pieces_unref(struct store_pieces *pieces)
{
        if (!pieces)
                return;
        pieces_finish(pieces);
        if (!drop_ref(pieces))
                return;
        assert(!pieces->claims);
        store_note_use(pieces->fd, 0);
        pieces_put_stamp(pieces);
        close(pieces->fd);
        mutex_release(&pieces->list_lock);
        free(pieces->list);
        free((void *)pieces->known);
        free(pieces);
}

const struct content_id *store_pieces_id(const struct store_pieces *pieces)
{
        return &pieces->id;
}

uint64_t store_pieces_size(const struct store_pieces *pieces)
{
        return pieces->layout.size;
}

/* ---- the end of a part ---- */

bool pieces_is_current(const struct store_pieces *pieces)
{
        char path[PART_PATH_MAX];

        part_path(&pieces->id, path);
        return store_is_current(pieces->fd, store_blob_dir(pieces->store, &pieces->id), path);
}

void pieces_lose(struct store_pieces *pieces)
{
        struct store *store = pieces->store;
        unsigned shard = usage_shard_of(&pieces->id);
        char path[PART_PATH_MAX], text[HASH_TEXT_MAX];
        bool first = !atomic_exchange(&pieces->lost, true);
        struct usage_turn turn;

        take_out(pieces);
        part_path(&pieces->id, path);
        turn = usage_begin(store, shard);
        turn.counted = false;
        if (pieces_is_current(pieces))
                (void)unlinkat(store_blob_dir(store, &pieces->id), path, 0);
        usage_end(store, shard, turn, 0, 0);
        if (first)
                log_limited(LOG_LEVEL_WARNING, "store", "what is here of %s was damaged: it is fetched anew",
                            content_id_format(&pieces->id, text));
}
