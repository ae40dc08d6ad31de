#include "cli/top.h"

#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "fs/control.h"
#include "fs/status.h"

struct slot {
        struct top *top;
        char *target;             /* owned */
        struct top_sample sample; /* guarded by top->lock, as are the next */
        int64_t sampled_ns;
        unsigned count;
};

struct top {
        struct mutex lock;
        struct condition sampled;
        unsigned interval_ms;
        size_t n;
        struct slot slots[MOUNTS_MAX];
};

static double rate(const json_t *before, const json_t *now, const char *key, double seconds)
{
        json_int_t a = json_integer_value(json_object_get(before, key)),
                   b = json_integer_value(json_object_get(now, key));

        /* A daemon that was replaced counts anew. */
        return (double)(b >= a ? b - a : b) / seconds;
}

/* Takes COUNTERS over. */
static void take_counters(struct slot *slot, json_t *counters, int64_t now_ns) TSA_REQUIRES(slot->top->lock)
{
        struct top_sample *s = &slot->sample;
        const json_t *before = s->counters;

        s->error[0] = '\0';
        if (before) {
                s->seconds = (double)MAX(now_ns - slot->sampled_ns, 1) / (double)NSEC_PER_SEC;
                s->requests = rate(before, counters, "requests", s->seconds);
                s->replies = rate(before, counters, "reply_bytes", s->seconds);
                s->fetched_files = rate(before, counters, "fetched_files", s->seconds);
                s->fetched_bytes = rate(before, counters, "fetched_bytes", s->seconds);
                s->waits = rate(before, counters, "waits", s->seconds);
                s->hits = rate(before, counters, "hits", s->seconds);
                s->misses = rate(before, counters, "misses", s->seconds);
        }
        json_decref(s->counters);
        s->counters = counters;
        slot->sampled_ns = now_ns;
}

static void ask(struct slot *slot)
{
        struct failure failure = { 0 };
        json_t *counters;
        int r = control_ask(slot->target, "counters", &counters, &failure);

        mutex_lock(&slot->top->lock);
        if (r == 0)
                take_counters(slot, counters, clock_monotonic_ns());
        else
                snprintf(slot->sample.error, sizeof(slot->sample.error), "%s", failure_text(&failure, r));
        slot->count++;
        condition_broadcast(&slot->top->sampled);
        mutex_unlock(&slot->top->lock);
}

static void *slot_main(void *arg)
{
        struct slot *slot = arg;

        for (;;) {
                ask(slot);
                poll(NULL, 0, (int)slot->top->interval_ms);
        }
        return NULL;
}

static int start_slot(struct slot *slot)
{
        pthread_attr_t attr;
        pthread_t thread;
        int r;

        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        r = -pthread_create(&thread, &attr, slot_main, slot);
        pthread_attr_destroy(&attr);
        return r;
}

int top_start(const struct mounts *mounts, unsigned interval_ms, struct top **ret)
{
        struct top *t = calloc(1, sizeof(*t));
        int r = t ? 0 : -ENOMEM;

        if (!t)
                return r;
        mutex_init(&t->lock);
        condition_init(&t->sampled);
        t->interval_ms = interval_ms;
        for (; t->n < mounts->n && r == 0; t->n += r == 0) {
                struct slot *slot = &t->slots[t->n];

                slot->top = t;
                slot->target = strdup(mounts->targets[t->n]);
                r = slot->target ? start_slot(slot) : -ENOMEM;
        }
        if (r < 0 && t->n == 0) {
                free(t->slots[0].target);
                free(t);
                return r;
        }
        *ret = t; /* what could not be started is not shown */
        return 0;
}

size_t top_count(const struct top *top)
{
        return top->n;
}

void top_get(struct top *top, size_t i, struct top_sample *ret)
{
        mutex_lock(&top->lock);
        *ret = top->slots[i].sample;
        json_incref(ret->counters);
        mutex_unlock(&top->lock);
        snprintf(ret->target, sizeof(ret->target), "%s", top->slots[i].target);
}

void top_sample_release(struct top_sample *sample)
{
        json_decref(sample->counters);
        sample->counters = NULL;
}

static bool all_have(const struct top *top, unsigned nth)
{
        for (size_t i = 0; i < top->n; i++)
                if (top->slots[i].count < nth)
                        return false;
        return true;
}

void top_await(struct top *top, unsigned nth, unsigned timeout_ms)
{
        const int64_t until_ns = clock_monotonic_ns() + timeout_ms * NSEC_PER_MSEC;

        mutex_lock(&top->lock);
        while (!all_have(top, nth) && condition_wait_until(&top->sampled, &top->lock, until_ns) == 0)
                continue;
        mutex_unlock(&top->lock);
}

static json_t *sample_json(const struct top_sample *s)
{
        json_t *object = s->counters ? json_copy(s->counters)
                                     : json_pack("{s:o}", "target", status_path_json(s->target));
        json_t *rates =
                json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "requests", s->requests, "reply_bytes",
                          s->replies, "hits", s->hits, "misses", s->misses, "fetched_files", s->fetched_files,
                          "fetched_bytes", s->fetched_bytes, "waits", s->waits);

        if (object && s->error[0])
                json_object_set_new(object, "error", json_string(s->error));
        if (object)
                json_object_set_new(object, "per_second", rates);
        else
                json_decref(rates);
        return object;
}

json_t *top_json(struct top *top)
{
        json_t *list = json_array();

        for (size_t i = 0; list && i < top->n; i++) {
                struct top_sample sample;

                top_get(top, i, &sample);
                json_array_append_new(list, sample_json(&sample));
                top_sample_release(&sample);
        }
        return list ? json_pack("{s:f, s:o}", "time", (double)clock_coarse_ns() / (double)NSEC_PER_SEC,
                                "mounts", list)
                    : NULL;
}
