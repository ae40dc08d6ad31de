#include "server/notify.h"

#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"

void notify_send(const char *text)
{
        int r = sd_notify(0, text);

        if (r < 0)
                log_limited(LOG_LEVEL_WARNING, "notify", "systemd cannot be told '%.*s': %s",
                            (int)strcspn(text, "\n"), text, strerror(-r));
}

int64_t notify_watchdog_ns(void)
{
        uint64_t usec;

        return sd_watchdog_enabled(0, &usec) > 0 ? (int64_t)usec * 1000 : 0;
}
