#include "server/supervisor.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "proto/rpc.h"
#include "server/notify.h"

void supervisor_init(struct supervisor *supervisor)
{
        *supervisor = (struct supervisor){ .watchdog_ns = notify_watchdog_ns() };
}

int64_t supervisor_tick_ns(const struct supervisor *supervisor, int64_t most_ns)
{
        return supervisor->watchdog_ns > 0 ? MIN(supervisor->watchdog_ns / 2, most_ns) : most_ns;
}

void supervisor_tell(struct supervisor *supervisor, bool ready, const char *status)
{
        char line[SUPERVISOR_STATUS_MAX], text[SUPERVISOR_STATUS_MAX + 32];
        bool begins = ready && !supervisor->ready;

        snprintf(line, sizeof(line), "%s", status);
        log_make_printable(line);
        if (!begins && strcmp(line, supervisor->status) == 0)
                return;
        snprintf(text, sizeof(text), "%sSTATUS=%s", begins ? "READY=1\n" : "", line);
        strcpy(supervisor->status, line);
        supervisor->ready = supervisor->ready || ready;
        notify_send(text);
}

/* Before start-up is over READY=1 would end that. */
void supervisor_reloading(struct supervisor *supervisor)
{
        char text[64];

        if (!supervisor->ready)
                return;
        /* With the time Type=notify-reload can tell this reload from an earlier one. */
        snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld",
                 (long long)(clock_monotonic_ns() / 1000));
        notify_send(text);
}

void supervisor_reloaded(struct supervisor *supervisor)
{
        if (supervisor->ready)
                notify_send("READY=1");
}

void supervisor_stopping(struct supervisor *supervisor, unsigned calls)
{
        char text[64];

        snprintf(text, sizeof(text), "STOPPING=1\nSTATUS=stopping, calls under way: %u", calls);
        notify_send(text);
}

void supervisor_watch(struct supervisor *supervisor, struct rpc_server *const *servers, size_t n)
{
        int64_t stall_ns = 0;

        if (supervisor->watchdog_ns == 0)
                return;
        for (size_t i = 0; i < n; i++)
                stall_ns = servers[i] ? MAX(stall_ns, rpc_server_stall_ns(servers[i])) : stall_ns;
        if (stall_ns < supervisor->watchdog_ns / 2)
                notify_send("WATCHDOG=1");
        else
                log_error("an event thread has not moved for %lld s: systemd is not told that all is well",
                          (long long)(stall_ns / NSEC_PER_SEC));
}
