/*
 * Waits in the kernel for locks that other processes hold, with an end: a process may be stopped, or hang, and who shares the store with it must not. The kernel has no such lock with a deadline, but
 * a signal ends a wait.
 */
#include <signal.h>
#include <sys/file.h>

#include "base/clock.h"
#include "cache/store_private.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define WAKE_SIGNAL SIGUSR2
#define WAKE_AGAIN_NS                                                                                        \
        (10 * NSEC_PER_MSEC) /* a thread just about to enter the kernel misses its signal: so again */
#define VAIN_NS     (10 * NSEC_PER_SEC)   /* for so long a wait in vain shortens the next ones … */
#define VAIN_MAX_NS (100 * NSEC_PER_MSEC) /* … to this */

static void on_wake(int signal_number)
{
        /* Only there so that a wait in the kernel returns EINTR. */
}

static void install_wake(void)
{
        struct sigaction action = { .sa_handler = on_wake };

        sigemptyset(&action.sa_mask);
        sigaction(WAKE_SIGNAL, &action, NULL);
}

int store_wait_setup(void)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        return -pthread_once(&once, install_wake);
}

bool store_is_interrupted(struct store *store)
{
        bool interrupted;

        mutex_lock(&store->mutex);
        interrupted = store->interrupted;
        mutex_unlock(&store->mutex);
        return interrupted;
}

static void unlink_waiter(struct store *store, struct store_waiter *waiter)
{
        struct store_waiter **p;

        mutex_lock(&store->mutex);
        for (p = &store->waiters; *p != waiter; p = &(*p)->next)
                ;
        *p = waiter->next;
        condition_broadcast(&store->waiter_left);
        mutex_unlock(&store->mutex);
}

/* Has this thread woken at UNTIL_NS, and from then on until the timer is deleted. */
static int set_alarm(int64_t until_ns, timer_t *ret)
{
        struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID,
                                  .sigev_signo = WAKE_SIGNAL,
                                  .sigev_notify_thread_id = gettid() };
        const struct itimerspec when = { .it_value = clock_timespec(until_ns),
                                         .it_interval = clock_timespec(WAKE_AGAIN_NS) };

        if (timer_create(CLOCK_MONOTONIC, &event, ret) < 0)
                return -errno;
        (void)timer_settime(*ret, TIMER_ABSTIME, &when, NULL);
        return 0;
}

static int64_t bound_ns(const struct store_patience *patience)
{
        int64_t vain_ns = atomic_load(&patience->vain_ns);

        return vain_ns && clock_monotonic_ns() - vain_ns < VAIN_NS ? MIN(patience->most_ns, VAIN_MAX_NS)
                                                                   : patience->most_ns;
}

/* STORE: whose store_interrupt ends it; NULL: none does. Without a timer (the user has too many signals pending) there is no wait. */
static int block_until(struct store *store, struct store_patience *patience, int (*block)(void *arg),
                       void *arg)
{
        const int64_t until_ns = clock_monotonic_ns() + bound_ns(patience);
        bool over = false;
        sigset_t wake, saved;
        timer_t alarm;
        int r;

        sigemptyset(&wake);
        sigaddset(&wake, WAKE_SIGNAL);
        pthread_sigmask(SIG_UNBLOCK, &wake, &saved);
        r = set_alarm(until_ns, &alarm) < 0 ? -EBUSY : 0;
        if (r == 0) {
                do {
                        r = block(arg);
                        over = clock_monotonic_ns() >= until_ns;
                } while (r == -EINTR && !over && !(store && store_is_interrupted(store)));
                timer_delete(alarm);
        }
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        if (r == -EINTR && over)
                r = -EBUSY;
        atomic_store(&patience->vain_ns, r == -EBUSY ? clock_monotonic_ns() : 0);
        return r;
}

int store_block_in_flock(void *arg)
{
        const int *fd = arg;

        return flock(*fd, LOCK_EX) < 0 ? -errno : 0;
}

int store_wait_bounded(struct store_patience *patience, int (*block)(void *arg), void *arg)
{
        return block_until(NULL, patience, block, arg);
}

int store_wait(struct store *store, int (*block)(void *arg), void *arg)
{
        struct store_waiter self = { .thread = pthread_self() };
        int r;

        mutex_lock(&store->mutex);
        if (store->interrupted) {
                mutex_unlock(&store->mutex);
                return -EINTR;
        }
        self.next = store->waiters;
        store->waiters = &self;
        mutex_unlock(&store->mutex);
        r = block_until(store, &store->patience, block, arg);
        unlink_waiter(store, &self);
        return r;
}

void store_interrupt(struct store *store)
{
        mutex_lock(&store->mutex);
        store->interrupted = true;
        while (store->waiters) {
                for (struct store_waiter *w = store->waiters; w; w = w->next)
                        pthread_kill(w->thread, WAKE_SIGNAL);
                condition_wait_until(&store->waiter_left, &store->mutex,
                                     clock_monotonic_ns() + WAKE_AGAIN_NS);
        }
        mutex_unlock(&store->mutex);
        pieces_interrupt(store);
        room_interrupt(store);
}
