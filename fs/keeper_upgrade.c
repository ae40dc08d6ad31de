#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/keeper_private.h"

#define UPGRADE_MAX_MS 60000 /* from the start of another program until it serves */

void keeper_upgrade_end(struct keeper *k, const char *failure)
{
        struct takeover_page *page = k->takeover.page;

        if (failure)
                log_error("the upgrade of '%s' failed: %s", k->takeover.target, failure);
        else
                log_info("the daemon of '%s' was upgraded", k->takeover.target);
        if (k->next.pid > 0)
                kill(k->next.pid, SIGKILL);
        child_release(&k->next);
        keeper_drop_fd(&k->next_fd);
        keeper_drop_fd(&k->before_fd);
        k->able = k->unproven = false;
        k->deadline_ns = INT64_MAX;
        atomic_fetch_add(failure ? &page->failed_upgrades : &page->upgrades, 1);
}

void keeper_upgrade_begin(struct keeper *k, int binary_fd)
{
        int r;

        if (k->deadline_ns != INT64_MAX || !takeover_is_due(&k->takeover)) {
                close(binary_fd);
                return;
        }
        k->next_fd = binary_fd;
        k->deadline_ns = clock_monotonic_ns() + UPGRADE_MAX_MS * NSEC_PER_MSEC;
        r = child_exec(binary_fd, k->folder, &k->next);
        if (r < 0)
                keeper_upgrade_end(k, strerror(-r));
}

void keeper_upgrade_promote(struct keeper *k)
{
        int status, r;

        child_reap(&k->now, REAP_MS, &status);
        child_release(&k->now);
        k->now = k->next;
        k->next = CHILD_NONE;
        k->before_fd = k->binary_fd;
        k->binary_fd = take_fd(&k->next_fd);
        k->able = false;
        k->unproven = true;
        k->ending = false;
        k->kill_ns = k->continue_ns = INT64_MAX;
        r = takeover_send(&k->takeover, k->now.socket_fd);
        if (r < 0)
                log_error("cannot hand over '%s': %s", k->takeover.target, strerror(-r));
}

void keeper_upgrade_undo(struct keeper *k)
{
        keeper_drop_fd(&k->binary_fd);
        k->binary_fd = take_fd(&k->before_fd);
        keeper_upgrade_end(k, "the new program cannot serve; going back to the old one");
}

void keeper_upgrade_hear(struct keeper *k)
{
        int binary_fd;

        if (takeover_hear(&k->takeover, k->next.socket_fd, &binary_fd) != TAKEOVER_ABLE)
                return;
        k->able = true;
        if (k->now.pid > 0)
                kill(k->now.pid, SIGKILL);
}

void keeper_upgrade_check_deadline(struct keeper *k)
{
        if (clock_monotonic_ns() < k->deadline_ns)
                return;
        if (k->unproven && k->now.pid > 0)
                kill(k->now.pid, SIGKILL);
        else
                keeper_upgrade_end(k, "the new program does not come up");
        k->deadline_ns = INT64_MAX;
}
