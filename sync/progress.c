#include "sync/progress.h"

#include <stdatomic.h>
#include <stdio.h>

#include "base/util.h"

void progress_enter(struct progress *progress, enum progress_phase phase)
{
        if (phase == PROGRESS_CONNECTING) {
                atomic_store(&progress->entries, 0);
                atomic_store(&progress->total_entries, 0);
                atomic_store(&progress->bytes, 0);
                atomic_store(&progress->total_bytes, 0);
        }
        if (phase == PROGRESS_RECEIVING)
                atomic_store(&progress->began_ns, clock_monotonic_ns());
        atomic_store(&progress->phase, (int)phase);
}

void progress_get(struct progress *progress, struct progress_view *ret)
{
        *ret = (struct progress_view){
                .phase = (enum progress_phase)atomic_load(&progress->phase),
                .entries = atomic_load(&progress->entries),
                .total_entries = atomic_load(&progress->total_entries),
                .bytes = atomic_load(&progress->bytes),
                .total_bytes = atomic_load(&progress->total_bytes),
        };
        if (ret->phase == PROGRESS_RECEIVING || ret->phase == PROGRESS_WRITING)
                ret->elapsed_ns = MAX(clock_monotonic_ns() - atomic_load(&progress->began_ns), INT64_C(1));
}

const char *progress_phase_name(enum progress_phase phase)
{
        static const char *const names[] = { "idle", "connecting", "waiting", "receiving", "writing" };

        return names[phase];
}

void progress_format(const struct progress_view *view, char *buf, size_t len)
{
        double seconds = (double)view->elapsed_ns / (double)NSEC_PER_SEC;
        double rate = seconds > 0 ? (double)view->entries / seconds : 0;
        double share = view->total_entries > 0 ? (double)view->entries / (double)view->total_entries : 0;
        int n;

        switch (view->phase) {
        case PROGRESS_IDLE:
        case PROGRESS_CONNECTING:
                snprintf(buf, len, "connecting to the master");
                return;
        case PROGRESS_WAITING:
                snprintf(buf, len, "the master looks at its files");
                return;
        case PROGRESS_RECEIVING:
        case PROGRESS_WRITING:
                break;
        }
        n = snprintf(buf, len, "%lu", (unsigned long)view->entries);
        if (n > 0 && (size_t)n < len && view->total_entries > 0)
                n += snprintf(buf + n, len - (size_t)n, " of %lu", (unsigned long)view->total_entries);
        if (n > 0 && (size_t)n < len)
                n += snprintf(buf + n, len - (size_t)n, " entries, %.1f MB, %.0f entries/s",
                              (double)view->bytes / 1e6, rate);
        if (n > 0 && (size_t)n < len && share > 0 && share <= 1 && view->phase == PROGRESS_RECEIVING)
                snprintf(buf + n, len - (size_t)n, ", %.0f s left", seconds / share - seconds);
}
