/*
 * What walks over the store do with a part: count it, read it again, and remove it.
 */
#include <fcntl.h>
#include <string.h>

#include "cache/pieces_private.h"

uint64_t pieces_charge(const struct store_found *found, const struct stat *st, bool *exact)
{
        _cleanup_close_ int fd = store_open_blob(found->dirfd, found->name, false);

        if (fd >= 0)
                return part_charge(fd, found->id.algorithm, st, exact);
        *exact = false;
        return usage_charge((uint64_t)st->st_blocks * 512);
}

int64_t pieces_drop_part(struct store *store, const struct content_id *id, bool *exact)
{
        _cleanup_close_ int fd = -1;
        char path[PART_PATH_MAX];
        struct stat st;
        int dirfd = store_blob_dir(store, id);
        uint64_t bytes;

        if (!hash_by_pieces(id->algorithm))
                return 0;
        part_path(id, path);
        fd = store_open_blob(dirfd, path, false);
        if (fd == -EWOULDBLOCK) {
                *exact = false;
                (void)unlinkat(dirfd, path, 0);
        }
        if (fd < 0 || fstat(fd, &st) < 0)
                return 0;
        bytes = part_charge(fd, id->algorithm, &st, exact);
        return unlinkat(dirfd, path, 0) == 0 ? (int64_t)bytes : 0;
}

/* ---- verifying ---- */

/* STORE_OK, STORE_MISS: it was wrong, or is not here; negative errno. Who has claimed it verifies it anyway. */
static int verify_piece(struct store_pieces *pieces, uint64_t index)
{
        int r = pieces_claim_any(pieces, index, false);

        if (r != STORE_OK)
                return r == STORE_BUSY ? STORE_OK : r;
        if (pieces_look(pieces, index) != PIECE_MISSING)
                r = pieces_reread(pieces, index);
        pieces_release(pieces, index);
        return r;
}

int pieces_verify_part(struct store *store, const struct store_found *found, uint64_t *ret_wrong)
{
        _cleanup_close_ int fd = store_open_blob(found->dirfd, found->name, true);
        struct store_pieces *pieces;
        struct part_info info;
        uint64_t wrong = 0;
        int r;

        if (fd < 0 || part_read_info(fd, found->id.algorithm, 0, &info) < 0)
                return 0;
        r = store_pieces_open(store, &found->id, info.size, false, &pieces);
        if (r != STORE_OK)
                return MIN(r, 0);
        for (uint64_t i = 0; r == STORE_OK && i < pieces->layout.count && !atomic_load(&pieces->whole); i++) {
                r = verify_piece(pieces, i);
                wrong += r == STORE_MISS;
                r = MIN(r, 0);
        }
        store_pieces_unref(pieces);
        *ret_wrong = wrong;
        return r;
}

/* ---- collecting ---- */

static void count_marked(uint64_t index, uint64_t mark, void *arg)
{
        *(uint64_t *)arg += mark != PART_MARK_NONE && mark != PART_MARK_WRITING;
}

/* Whether there is a list and a piece to use with it. */
static bool is_useful(int fd, enum hash_algorithm algorithm)
{
        struct part_info info;
        struct part_layout layout;
        uint64_t marked = 0;

        if (part_read_info(fd, algorithm, 0, &info) < 0 || !info.listed)
                return false;
        layout = part_layout(algorithm, info.size);
        return part_each_mark(fd, &layout, count_marked, &marked) == 0 && marked > 0;
}

int pieces_collect_part(struct store *store, const struct store_found *found, struct store_evicted *ret)
{
        _cleanup_close_ int fd = store_open_blob(found->dirfd, found->name, true);
        unsigned shard = usage_shard_of(&found->id);
        uint64_t bytes = 0;
        struct stat st;
        struct usage_turn turn;
        int r = 0;

        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return 0;
        turn = usage_begin(store, shard);
        if (turn.locked && store_is_current(fd, found->dirfd, found->name) &&
            !is_useful(fd, found->id.algorithm) && !store_is_open_elsewhere(fd)) {
                bytes = part_charge(fd, found->id.algorithm, &st, &turn.counted);
                r = unlinkat(found->dirfd, found->name, 0) < 0 ? -errno : 0;
                ret->blobs += r == 0;
                ret->bytes += r == 0 ? bytes : 0;
        }
        usage_end(store, shard, turn, r == 0 ? -(int64_t)bytes : 0, 0);
        return r;
}
