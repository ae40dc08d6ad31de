#include "server/versions_private.h"

#define QUIET_NS (15 * NSEC_PER_MSEC)  /* after the last thing told, a pass is made … */
#define DELAY_NS (200 * NSEC_PER_MSEC) /* … but so long after the first at the latest */

void version_told_locked(struct version *v)
{
        int64_t now = clock_monotonic_ns();
        bool first = v->first_told_ns == 0 || v->first_told_ns > now;

        if (first)
                v->first_told_ns = now;
        v->last_told_ns = now;
        if (first && v->subscribers)
                condition_broadcast(&v->versions->change);
}

/* Until when nothing has to be done for V. */
static int64_t due_ns(const struct version *v, bool *ret_full)
{
        int64_t told = INT64_MAX, walk = INT64_MAX;

        *ret_full = false;
        if (v->running)
                return INT64_MAX;
        if (v->subscribers && v->first_told_ns > 0)
                told = MIN(v->last_told_ns + QUIET_NS, v->first_told_ns + DELAY_NS);
        /* Where so much changes that each time everything has to be walked over, that is not all that is done. */
        if (!v->synced && told < v->rest_until_ns)
                told = v->rest_until_ns;
        /* As long as somebody is interested: who does not subscribe, and has asked since the last walk, is. */
        if (v->walked_ns > 0 && (v->subscribers || v->asked_ns > v->walked_ns))
                walk = v->walked_ns + v->versions->options.stat_pass_ms * NSEC_PER_MSEC;
        *ret_full = walk <= told;
        return MIN(told, walk);
}

/* Queues what is due; returns when the next will be. */
static int64_t queue_due_locked(struct versions *versions) TSA_REQUIRES(versions->lock)
{
        int64_t now = clock_monotonic_ns(), next = INT64_MAX;
        struct version *v, *following;

        HASH_ITER (hh, versions->table, v, following) {
                bool full;
                int64_t due = due_ns(v, &full);
                if (due > now) {
                        next = MIN(next, due);
                        continue;
                }
                v->wanted = true;
                v->wanted_full = full;
                version_queue_pass_locked(v);
        }
        return next;
}

static void *timer_main(void *arg)
{
        struct versions *versions = arg;

        thread_name("passes");
        mutex_lock(&versions->lock);
        while (!versions->stopping) {
                int64_t next = queue_due_locked(versions);
                if (next == INT64_MAX)
                        condition_wait(&versions->change, &versions->lock);
                else
                        condition_wait_until(&versions->change, &versions->lock, next);
        }
        mutex_unlock(&versions->lock);
        return NULL;
}

int versions_start_timer(struct versions *versions)
{
        int r = -pthread_create(&versions->timer, NULL, timer_main, versions);

        versions->has_timer = r == 0;
        return r;
}

void versions_stop_timer(struct versions *versions)
{
        mutex_lock(&versions->lock);
        versions->stopping = true;
        condition_broadcast(&versions->change);
        mutex_unlock(&versions->lock);
        if (versions->has_timer)
                pthread_join(versions->timer, NULL);
        versions->has_timer = false;
}
