/*
 * A daemon that was stopped (SIGSTOP, SIGTSTP) loses nothing, but whoever asks its mount for anything waits, and few would find out for what. After a while it is made to go
 * on. Not while it is in a debugger, nor if the keeper is stopped with it, as by a batch system that suspends all of a job: then who did that knows.
 */
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/keeper_private.h"

#define STOPPED_MAX_SEC 10

static int64_t later_ns(void)
{
        return clock_monotonic_ns() + STOPPED_MAX_SEC * NSEC_PER_SEC;
}

void keeper_stopped_hear(struct keeper *k)
{
        siginfo_t news = { 0 };

        while (k->now.pid > 0 &&
               waitid(P_PID, (id_t)k->now.pid, &news, WSTOPPED | WCONTINUED | WNOHANG) == 0 &&
               news.si_pid != 0) {
                k->continue_ns = news.si_code == CLD_STOPPED ? later_ns() : INT64_MAX;
                news.si_pid = 0;
        }
}

void keeper_stopped_check(struct keeper *k)
{
        if (clock_monotonic_ns() < k->continue_ns || k->now.pid <= 0)
                return;
        if (keeper_hang_is_traced(k)) {
                k->continue_ns = later_ns();
                return;
        }
        k->continue_ns = INT64_MAX;
        log_warning("the daemon of '%s' was stopped by a signal, and not continued for %d s: it goes on",
                    k->takeover.target, STOPPED_MAX_SEC);
        kill(k->now.pid, SIGCONT);
}
