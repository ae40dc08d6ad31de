#include "cache/guarded_map.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "base/lock.h"
#include "base/util.h"

#define GUARDS 16u /* maps at the same time: one for each store; those beyond are mapped, and not guarded */

/* Read by the handler, so neither locked nor allocated. START is set last and cleared first. */
struct guard {
        atomic_flag taken;
        size_t len;
        _Atomic uintptr_t start; /* 0: none */
};

static struct guard guards[GUARDS];
static struct sigaction before;

static struct guard *find_guard(uintptr_t address)
{
        for (unsigned i = 0; i < GUARDS; i++) {
                uintptr_t start = atomic_load(&guards[i].start);
                if (start != 0 && address >= start && address - start < guards[i].len)
                        return &guards[i];
        }
        return NULL;
}

/* On return the access is made again: to the new memory, or, with what was there before, to the same end as ever. */
static void on_bus_error(int signal_number, siginfo_t *info, void *context)
{
        const int saved = errno;
        const struct guard *guard = find_guard((uintptr_t)info->si_addr);

        if (!guard || mmap((void *)atomic_load(&guard->start), guard->len, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
                sigaction(SIGBUS, &before, NULL);
        errno = saved;
}

/* With every map, in case that somebody has put another in its place. */
static void install(void)
{
        static struct mutex lock = { PTHREAD_MUTEX_INITIALIZER };
        struct sigaction action = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO }, now;

        mutex_lock(&lock);
        sigemptyset(&action.sa_mask);
        if (sigaction(SIGBUS, NULL, &now) == 0 && now.sa_sigaction != on_bus_error) {
                before = now;
                sigaction(SIGBUS, &action, NULL);
        }
        mutex_unlock(&lock);
}

static void add_guard(void *map, size_t len)
{
        for (unsigned i = 0; i < GUARDS; i++)
                if (!atomic_flag_test_and_set(&guards[i].taken)) {
                        guards[i].len = len;
                        atomic_store(&guards[i].start, (uintptr_t)map);
                        return;
                }
}

int guarded_map(int fd, size_t len, void **ret)
{
        void *map = mmap(NULL, len, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED,
                         fd, 0);

        if (map == MAP_FAILED)
                return -errno;
        install();
        add_guard(map, len);
        *ret = map;
        return 0;
}

void guarded_unmap(void *map, size_t len)
{
        struct guard *guard = map ? find_guard((uintptr_t)map) : NULL;

        if (guard) {
                atomic_store(&guard->start, 0);
                atomic_flag_clear(&guard->taken);
        }
        if (map)
                munmap(map, len);
}
