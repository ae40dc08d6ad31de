#include "fs/bindings.h"

#include <stdatomic.h>

#include <uthash.h>

#include "base/lock.h"
#include "base/util.h"

#define WORD_BITS 64

struct moved {
        uint64_t ino;
        uint64_t source;
        UT_hash_handle hh;
};

struct bindings {
        struct mutex lock;
        uint64_t *fixed TSA_GUARDED(lock); /* owned: a bit per inode number, set once a byte was served */
        size_t n_words TSA_GUARDED(lock);
        struct moved *moved TSA_GUARDED(lock); /* owned, by ino */
        atomic_bool any_moved;                 /* spares the common case the lock; never reset */
};

int bindings_new(struct bindings **ret)
{
        struct bindings *b = calloc(1, sizeof(*b));

        if (!b)
                return -ENOMEM;
        mutex_init(&b->lock);
        *ret = b;
        return 0;
}

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
        free(bindings->fixed);
        free(bindings);
}

static bool is_fixed(const struct bindings *b, uint64_t ino) TSA_REQUIRES(b->lock)
{
        return ino / WORD_BITS < b->n_words && (b->fixed[ino / WORD_BITS] >> ino % WORD_BITS & 1);
}

static int set_fixed(struct bindings *b, uint64_t ino) TSA_REQUIRES(b->lock)
{
        size_t word = ino / WORD_BITS;

        if (word >= b->n_words) {
                size_t n = MAX(word + 1, b->n_words * 2);
                uint64_t *grown = reallocarray(b->fixed, n, sizeof(*grown));
                if (!grown)
                        return -ENOMEM;
                memset(grown + b->n_words, 0, (n - b->n_words) * sizeof(*grown));
                b->fixed = grown;
                b->n_words = n;
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
        if (!moved) {
                moved = calloc(1, sizeof(*moved));
                if (!moved)
                        return -ENOMEM;
                moved->ino = ino;
                HASH_ADD(hh, b->moved, ino, sizeof(moved->ino), moved);
        }
        moved->source = source;
        atomic_store(&b->any_moved, true);
        return 0;
}

int bindings_move(struct bindings *bindings, uint64_t ino, uint64_t source)
{
        int r = -ESTALE;

        mutex_lock(&bindings->lock);
        if (!is_fixed(bindings, ino))
                r = set_source(bindings, ino, source);
        mutex_unlock(&bindings->lock);
        return r;
}
