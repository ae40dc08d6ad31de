/*
 * What is here of a content: the states of its pieces, and their bytes. Nothing here takes a lock, but where bytes turn out not to be there: `known` goes
 * up by who marked a piece or found its mark, and down only then.
 */
#include "cache/pieces_private.h"

#include <string.h>

#include "base/io.h"

/* The file ends before a mark: another process has published it, or somebody has truncated it. */
static bool has_become_blob(struct store_pieces *pieces)
{
        struct part_info info;

        if (part_read_info(pieces->fd, pieces->id.algorithm, pieces->layout.size, &info) < 0 || !info.whole)
                return false;
        atomic_store(&pieces->whole, true);
        return true;
}

void pieces_note(struct store_pieces *pieces, uint64_t index, enum piece_state state)
{
        atomic_store(&pieces->known[index], (uint8_t)state);
        if (state != PIECE_HERE && index < atomic_load(&pieces->first))
                atomic_store(&pieces->first, index);
}

static enum piece_state state_of_mark(const struct store_pieces *pieces, uint64_t mark)
{
        if (mark == store_boot_mark(pieces->store))
                return pieces->trusted ? PIECE_HERE : PIECE_UNCHECKED;
        return mark == PART_MARK_NONE || mark == PART_MARK_WRITING ? PIECE_MISSING : PIECE_UNCHECKED;
}

static void load_mark(uint64_t index, uint64_t mark, void *arg)
{
        struct store_pieces *pieces = arg;
        enum piece_state state = state_of_mark(pieces, mark);

        /* This boot's, and this process has seen its bytes itself. */
        if (state == PIECE_UNCHECKED && mark == store_boot_mark(pieces->store) &&
            atomic_load(&pieces->known[index]) == PIECE_HERE)
                state = PIECE_HERE;
        pieces_note(pieces, index, state);
}

int pieces_load_marks(struct store_pieces *pieces)
{
        return part_each_mark(pieces->fd, &pieces->layout, load_mark, pieces);
}

/* What the mark says, which was read with result R. Only "here" is worth noting: anything else may be overtaken. */
static enum piece_state judge(struct store_pieces *pieces, uint64_t index, int r, uint64_t mark)
{
        enum piece_state state;

        if (r == -ENODATA)
                return has_become_blob(pieces) ? PIECE_HERE : PIECE_MISSING;
        if (r < 0)
                return atomic_load(&pieces->known[index]);
        state = state_of_mark(pieces, mark);
        if (state == PIECE_HERE)
                pieces_note(pieces, index, state);
        return state;
}

enum piece_state store_pieces_state(const struct store_pieces *pieces, uint64_t index)
{
        struct store_pieces *p =
                (struct store_pieces *)pieces; /* what it learns changes nothing for others */
        uint64_t mark = PART_MARK_NONE;
        int r;

        if (index >= p->layout.count || atomic_load(&p->lost))
                return PIECE_MISSING;
        if (atomic_load(&p->whole))
                return PIECE_HERE;
        if (!store_pieces_listed(p))
                return PIECE_MISSING;
        if (atomic_load(&p->known[index]) == PIECE_HERE)
                return PIECE_HERE;
        r = part_peek_mark(p->fd, &p->layout, index, &mark);
        return judge(p, index, r, mark);
}

enum piece_state pieces_look(struct store_pieces *pieces, uint64_t index)
{
        uint64_t mark = PART_MARK_NONE;
        int r;

        if (!store_pieces_listed(pieces) || atomic_load(&pieces->lost))
                return PIECE_MISSING;
        r = part_read_mark(pieces->fd, &pieces->layout, index, &mark);
        return judge(pieces, index, r, mark);
}

static void doubt_unseen(uint64_t index, uint64_t mark, void *arg)
{
        struct store_pieces *pieces = arg;

        if (mark == store_boot_mark(pieces->store) && atomic_load(&pieces->known[index]) != PIECE_HERE)
                pieces->trusted = false;
}

void pieces_put_stamp(struct store_pieces *pieces)
{
        const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, pieces->store->stamp };
        bool trusted = pieces->trusted;

        if (atomic_load(&pieces->lost) || atomic_load(&pieces->whole) || !store_pieces_listed(pieces))
                return;
        pieces->trusted = true;
        if (!trusted && part_each_mark(pieces->fd, &pieces->layout, doubt_unseen, pieces) < 0)
                return;
        if (pieces->trusted)
                (void)futimens(pieces->fd, times);
}

bool pieces_has_stamp(const struct store_pieces *pieces)
{
        struct stat st;

        return fstat(pieces->fd, &st) == 0 && store_is_stamped(pieces->store, &st);
}

struct present_state {
        const struct store_pieces *pieces;
        uint64_t bytes;
};

static void add_present(uint64_t index, uint64_t mark, void *arg)
{
        struct present_state *state = arg;

        if (state_of_mark(state->pieces, mark) != PIECE_MISSING)
                state->bytes += piece_len(state->pieces->layout.size, index);
}

uint64_t store_pieces_present(const struct store_pieces *pieces)
{
        struct present_state state = { .pieces = pieces };
        int r;

        if (atomic_load(&pieces->whole))
                return pieces->layout.size;
        if (!store_pieces_listed(pieces))
                return 0;
        r = part_each_mark(pieces->fd, &pieces->layout, add_present, &state);
        if (r == -ENODATA && has_become_blob((struct store_pieces *)pieces))
                return pieces->layout.size;
        return state.bytes;
}

/* Where the pieces that are here end, from OFFSET on, at most at END. */
static uint64_t run_end(const struct store_pieces *pieces, uint64_t offset, uint64_t end)
{
        uint64_t index = offset / PIECE_BYTES;

        while (index * PIECE_BYTES < end && store_pieces_state(pieces, index) == PIECE_HERE)
                index++;
        return MIN(index * PIECE_BYTES, end);
}

/* A bad sector: these pieces can be had again. Claimed meanwhile, as what is just being published has no marks any more (S2). */
static void forget(struct store_pieces *pieces, uint64_t offset, uint64_t end)
{
        for (uint64_t i = offset / PIECE_BYTES; i * PIECE_BYTES < end; i++) {
                if (pieces_claim_any(pieces, i, false) != STORE_OK)
                        continue;
                if (pieces_look(pieces, i) == PIECE_HERE && !atomic_load(&pieces->whole)) {
                        (void)part_write_mark(pieces->fd, &pieces->layout, i, PART_MARK_WRITING);
                        pieces_note(pieces, i, PIECE_MISSING);
                }
                pieces_release(pieces, i);
        }
}

/* Somebody has written to what became a blob (S3). While it still has a part's name it is about to be stamped, which comes before the blob's. */
static bool is_written_to(struct store_pieces *pieces)
{
        return atomic_load(&pieces->whole) && !pieces_has_stamp(pieces) && !pieces_is_current(pieces) &&
               !pieces_has_stamp(pieces);
}

ssize_t store_pieces_read(struct store_pieces *pieces, void *data, size_t len, uint64_t offset)
{
        bool right;
        uint64_t end;
        ssize_t n;

        if (offset >= pieces->layout.size || len == 0)
                return 0;
        end = run_end(pieces, offset, offset + MIN(len, pieces->layout.size - offset));
        if (end <= offset)
                return -ENODATA;
        n = io_pread_all(pieces->fd, data, end - offset, (off_t)offset);
        right = n == (ssize_t)(end - offset);
        if ((right && !is_written_to(pieces)) || (n < 0 && n != -EIO))
                return n;
        if (atomic_load(&pieces->whole) || has_become_blob(pieces)) {
                store_doubt(pieces->fd);
                pieces_lose(pieces);
        } else if (n < 0) {
                forget(pieces, offset, end);
        } else {
                pieces_lose(pieces);
        }
        return -ENODATA;
}
