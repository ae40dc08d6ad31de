#include "fs/ahead.h"

#include "fs/filesystem.h"
#include "fs/pagecache.h"
#include "sync/learned.h"
#include "sync/readahead.h"
#include "sync/siblings.h"

static int start_readahead(struct filesystem *fs)
{
        struct readahead_options readahead = {
                .catalog = fs->catalog,
                .store = fs->store,
                .fetch = fs->fetch,
                .push = pagecache_push,
                .arg = fs,
        };

        return readahead_new(&readahead, &fs->readahead);
}

static int start_learning(struct filesystem *fs)
{
        struct learned_options learned = {
                .session = fs->session,
                .catalog = fs->catalog,
                .store = fs->store,
                .fetch = fs->fetch,
                .rate_bytes = fs->options.prefetch_rate,
        };
        struct siblings_options siblings = { .catalog = fs->catalog, .store = fs->store, .fetch = fs->fetch };
        int r = fs->options.offline ? 0 : siblings_new(&siblings, &fs->siblings);

        return r < 0 || fs->options.offline ? r : learned_new(&learned, &fs->learned);
}

int ahead_start(struct filesystem *fs)
{
        int r;

        if (fs->options.prefetch == PREFETCH_OFF)
                return 0;
        r = start_readahead(fs);
        return r == 0 ? start_learning(fs) : r;
}

void ahead_connected(void *fs)
{
        learned_connected(((struct filesystem *)fs)->learned);
}

void ahead_begin(struct filesystem *fs)
{
        learned_begin(fs->learned);
}

void ahead_report(struct filesystem *fs)
{
        learned_stop(fs->learned);
}

void ahead_stop(struct filesystem *fs)
{
        learned_stop(fs->learned);
        readahead_stop(fs->readahead);
        siblings_stop(fs->siblings);
}

void ahead_free(struct filesystem *fs)
{
        readahead_free(fs->readahead);
        siblings_free(fs->siblings);
        learned_free(fs->learned);
}
