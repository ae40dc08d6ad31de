#include "fs/bindings.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <uthash.h>

#include "base/io.h"
#include "base/lock.h"
#include "base/util.h"

#define WORD_BITS  64
#define GROW_WORDS 8192u /* at least, which is half a million numbers */

/* As it lies in the file. */
struct record {
        uint64_t ino;
        uint64_t source; /* INO: not bound elsewhere any more */
};

struct moved {
        uint64_t ino;
        uint64_t source;
        UT_hash_handle hh;
};

struct bindings {
        struct mutex lock;
        int fixed_fd, moved_fd; /* borrowed */
        uint64_t *fixed
                TSA_GUARDED(lock); /* fixed_fd, mapped: a bit per inode number, set before a byte is served */
        size_t n_words TSA_GUARDED(lock);
        off_t moved_len TSA_GUARDED(lock); /* bytes of moved_fd: records, the last one for a number counts */
        struct moved *moved TSA_GUARDED(lock); /* owned, by ino */
        atomic_bool any_moved;                 /* spares the common case the lock; never reset */
};

void bindings_free(struct bindings *bindings) TSA_NONE
{
        struct moved *moved, *next;

        if (!bindings)
                return;
        HASH_ITER (hh, bindings->moved, moved, next) {
                HASH_DEL(bindings->moved, moved);
                free(moved);
        }
        mutex_release(&bindings->lock);
        if (bindings->fixed)
                munmap(bindings->fixed, bindings->n_words * sizeof(*bindings->fixed));
        free(bindings);
}

static bool is_fixed(const struct bindings *b, uint64_t ino) TSA_REQUIRES(b->lock)
{
        return ino / WORD_BITS < b->n_words && (b->fixed[ino / WORD_BITS] >> ino % WORD_BITS & 1);
}

/* The file, of N_WORDS now, in place of what was mapped of it. */
static int map_fixed(struct bindings *b, size_t n_words) TSA_REQUIRES(b->lock)
{
        void *all =
                mmap(NULL, n_words * sizeof(*b->fixed), PROT_READ | PROT_WRITE, MAP_SHARED, b->fixed_fd, 0);

        if (all == MAP_FAILED)
                return -errno;
        if (b->fixed)
                munmap(b->fixed, b->n_words * sizeof(*b->fixed));
        b->fixed = all;
        b->n_words = n_words;
        return 0;
}

static int set_fixed(struct bindings *b, uint64_t ino) TSA_REQUIRES(b->lock)
{
        size_t word = ino / WORD_BITS;

        if (word >= b->n_words) {
                size_t n = MAX(MAX(word + 1, b->n_words * 2), (size_t)GROW_WORDS);
                int r = ftruncate(b->fixed_fd, (off_t)(n * sizeof(*b->fixed))) < 0 ? -errno : map_fixed(b, n);
                if (r < 0)
                        return r;
        }
        b->fixed[word] |= UINT64_C(1) << ino % WORD_BITS;
        return 0;
}

static uint64_t get_source(const struct bindings *b, uint64_t ino) TSA_REQUIRES(b->lock)
{
        struct moved *moved;

        HASH_FIND(hh, b->moved, &ino, sizeof(ino), moved);
        return moved ? moved->source : ino;
}

uint64_t bindings_get(struct bindings *bindings, uint64_t ino)
{
        uint64_t source;

        if (!atomic_load(&bindings->any_moved))
                return ino;
        mutex_lock(&bindings->lock);
        source = get_source(bindings, ino);
        mutex_unlock(&bindings->lock);
        return source;
}

uint64_t bindings_find_bound(struct bindings *bindings, uint64_t source)
{
        struct moved *moved;
        uint64_t ino;

        mutex_lock(&bindings->lock);
        for (moved = bindings->moved; moved && moved->source != source; moved = moved->hh.next)
                ;
        ino = moved ? moved->ino : 0;
        mutex_unlock(&bindings->lock);
        return ino;
}

int bindings_fix(struct bindings *bindings, uint64_t ino, uint64_t source)
{
        int r = -EAGAIN;

        mutex_lock(&bindings->lock);
        if (get_source(bindings, ino) == source)
                r = set_fixed(bindings, ino);
        mutex_unlock(&bindings->lock);
        return r;
}

static int set_source(struct bindings *b, uint64_t ino, uint64_t source) TSA_REQUIRES(b->lock)
{
        struct moved *moved;

        HASH_FIND(hh, b->moved, &ino, sizeof(ino), moved);
        if (ino == source) {
                if (moved)
                        HASH_DEL(b->moved, moved);
                free(moved);
                return 0;
        }
        if (!moved) {
                moved = calloc(1, sizeof(*moved));
                if (!moved)
                        return -ENOMEM;
                moved->ino = ino;
                HASH_ADD(hh, b->moved, ino, sizeof(moved->ino), moved);
                if (!moved->hh.tbl) {
                        free(moved);
                        return -ENOMEM;
                }
        }
        moved->source = source;
        atomic_store(&b->any_moved, true);
        return 0;
}

/* For who takes over. */
static int note_moved(struct bindings *b, uint64_t ino, uint64_t source) TSA_REQUIRES(b->lock)
{
        const struct record record = { .ino = ino, .source = source };
        int r = io_pwrite_all(b->moved_fd, &record, sizeof(record), b->moved_len);

        if (r == 0)
                b->moved_len += (off_t)sizeof(record);
        return r;
}

int bindings_move(struct bindings *bindings, uint64_t ino, uint64_t source)
{
        int r = -ESTALE;

        mutex_lock(&bindings->lock);
        if (!is_fixed(bindings, ino))
                r = note_moved(bindings, ino, source);
        if (r == 0)
                r = set_source(bindings, ino, source);
        mutex_unlock(&bindings->lock);
        return r;
}

int bindings_drop(struct bindings *bindings, uint64_t ino)
{
        int r;

        mutex_lock(&bindings->lock);
        r = note_moved(bindings, ino, ino);
        if (r == 0)
                r = set_source(bindings, ino, ino);
        mutex_unlock(&bindings->lock);
        return r;
}

/* ---- taking over ---- */

/* A record that was not written to its end, in the moment of a death, was not used yet. */
static int load_moved(struct bindings *b) TSA_REQUIRES(b->lock)
{
        struct record record;
        ssize_t n;

        while ((n = io_pread_all(b->moved_fd, &record, sizeof(record), b->moved_len)) == sizeof(record)) {
                int r = set_source(b, record.ino, record.source);
                if (r < 0)
                        return r;
                b->moved_len += (off_t)sizeof(record);
        }
        return n < 0 ? (int)n : 0;
}

static int load(struct bindings *b)
{
        struct stat st;
        int r = fstat(b->fixed_fd, &st) < 0 ? -errno : 0;

        mutex_lock(&b->lock);
        if (r == 0 && st.st_size > 0)
                r = map_fixed(b, (size_t)st.st_size / sizeof(*b->fixed));
        if (r == 0)
                r = load_moved(b);
        mutex_unlock(&b->lock);
        return r;
}

int bindings_new(int fixed_fd, int moved_fd, struct bindings **ret)
{
        struct bindings *b = calloc(1, sizeof(*b));
        int r;

        if (!b)
                return -ENOMEM;
        mutex_init(&b->lock);
        b->fixed_fd = fixed_fd;
        b->moved_fd = moved_fd;
        r = load(b);
        if (r < 0)
                bindings_free(b);
        else
                *ret = b;
        return r;
}
