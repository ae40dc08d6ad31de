#include "fs/notifier.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <utlist.h>

#include "base/lock.h"
#include "base/log.h"
#include "fs/retired.h"
#include "fs/takeover.h"

struct batch {
        struct catalog_changes changes; /* owned */
        uint64_t generation;
        struct batch *prev, *next;
};

struct notifier {
        struct fuse_session *fuse; /* borrowed */
        struct catalog *catalog;   /* borrowed */
        _Atomic uint64_t *known;   /* borrowed: the generation that the kernel was told last */
        struct retired retired;
        struct mutex lock;
        struct condition work;                                     /* a batch came, or stopping */
        struct condition idle;                                     /* a batch was told */
        struct batch *queue TSA_GUARDED(lock);                     /* owned */
        uint64_t pushed TSA_GUARDED(lock), told TSA_GUARDED(lock); /* batches */
        _Atomic bool stopping;
        pthread_t thread;
        bool started;
};

static int tell_entry(struct notifier *n, uint64_t ino)
{
        struct catalog_entry entry;
        int r = catalog_get(n->catalog, ino, &entry);

        return r == CATALOG_OK
                       ? fuse_lowlevel_notify_inval_entry(n->fuse, entry.parent, entry.name, entry.name_len)
                       : MIN(r, 0);
}

/* -ENOENT means that the kernel does not know the thing: then there is nothing to forget. */
static void tell(struct notifier *n, const struct catalog_change *change)
{
        int r = 0;

        switch (change->op) {
        case CHANGE_ENTRY:
                r = tell_entry(n, change->ino);
                break;
        case CHANGE_ATTRIBUTES:
                r = fuse_lowlevel_notify_inval_inode(n->fuse, change->ino, -1,
                                                     0); /* a negative offset: attributes only */
                break;
        case CHANGE_LISTING:
                r = fuse_lowlevel_notify_inval_inode(n->fuse, change->ino, 0, 0);
                break;
        }
        if (r < 0 && r != -ENOENT)
                log_limited(LOG_LEVEL_WARNING, "notify",
                            "the kernel was not told of a change, and may go on showing inode %lu: %s",
                            change->ino, strerror(-r));
}

static void *notifier_main(void *arg)
{
        struct notifier *n = arg;

        thread_name("notify");
        mutex_lock(&n->lock);
        while (!n->stopping) {
                struct batch *batch = n->queue;

                if (!batch) {
                        condition_wait(&n->work, &n->lock);
                        continue;
                }
                DL_DELETE(n->queue, batch);
                mutex_unlock(&n->lock);
                for (size_t i = 0; i < batch->changes.count && !n->stopping; i++)
                        tell(n, &batch->changes.items[i]);
                if (!n->stopping) {
                        atomic_store(n->known, batch->generation);
                        retired_next(&n->retired, batch->generation);
                }
                catalog_changes_release(&batch->changes);
                free(batch);
                mutex_lock(&n->lock);
                n->told++;
                condition_broadcast(&n->idle);
        }
        mutex_unlock(&n->lock);
        return NULL;
}

int notifier_new(struct fuse_session *fuse, struct catalog *catalog, struct bindings *bindings,
                 struct takeover_page *page, struct notifier **ret)
{
        struct notifier *n = calloc(1, sizeof(*n));
        int r;

        if (!n)
                return -ENOMEM;
        n->fuse = fuse;
        n->catalog = catalog;
        n->known = &page->told;
        n->retired = (struct retired){ .fuse = fuse,
                                       .catalog = catalog,
                                       .bindings = bindings,
                                       .forgotten = &page->forgotten,
                                       .keep_ns = retired_keep_ns() };
        mutex_init(&n->lock);
        condition_init(&n->work);
        condition_init(&n->idle);
        r = -pthread_create(&n->thread, NULL, notifier_main, n);
        n->started = r == 0;
        if (r < 0) {
                notifier_free(n);
                return r;
        }
        *ret = n;
        return 0;
}

void notifier_free(struct notifier *notifier) TSA_NONE
{
        struct batch *batch, *next;

        if (!notifier)
                return;
        mutex_lock(&notifier->lock);
        notifier->stopping = true;
        condition_broadcast(&notifier->work);
        condition_broadcast(&notifier->idle);
        mutex_unlock(&notifier->lock);
        if (notifier->started)
                pthread_join(notifier->thread, NULL);
        DL_FOREACH_SAFE (notifier->queue, batch, next) {
                catalog_changes_release(&batch->changes);
                free(batch);
        }
        condition_release(&notifier->work);
        condition_release(&notifier->idle);
        mutex_release(&notifier->lock);
        free(notifier);
}

int notifier_push(struct notifier *notifier, struct catalog_changes *changes, uint64_t generation)
{
        struct batch *batch = calloc(1, sizeof(*batch));

        if (!batch)
                return -ENOMEM;
        batch->generation = generation;
        batch->changes = *changes;
        *changes = (struct catalog_changes){ 0 };
        mutex_lock(&notifier->lock);
        DL_APPEND(notifier->queue, batch);
        notifier->pushed++;
        condition_signal(&notifier->work);
        mutex_unlock(&notifier->lock);
        return 0;
}

void notifier_drain(struct notifier *notifier)
{
        uint64_t target;

        mutex_lock(&notifier->lock);
        target = notifier->pushed;
        while (notifier->told < target && !notifier->stopping)
                condition_wait(&notifier->idle, &notifier->lock);
        mutex_unlock(&notifier->lock);
}
