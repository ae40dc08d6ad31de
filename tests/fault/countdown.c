#include "tests/fault/countdown.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/util.h"
#include "tests/fault/faults.h"
#include "tests/unit/unit.h"

#define CALLS_MAX 20000 /* of one class on one path: more is a path that never comes to its end */
#define LEAKS_PROVE                                                                                          \
        3 /* so often memory has to grow: the first time it may be something that is kept for good */

extern const char __executable_start[], etext[];

static const struct {
        const char *name;
        unsigned classes;
        int error;
} kinds[] = {
        { "memory", FAULT_MEMORY, ENOMEM },
        { "own-memory", FAULT_OWN_MEMORY, ENOMEM },
        { "read", FAULT_READ, EIO },
        { "write", FAULT_WRITE, EIO },
        { "sync", FAULT_SYNC, EIO },
        { "names", FAULT_NAMES, EIO },
        { "open", FAULT_OPEN, EIO },
        { "make", FAULT_MAKE, EIO },
        { "map", FAULT_MAP, ENOMEM },
        { "length", FAULT_LENGTH, EIO },
        { "full", FAULT_WRITE | FAULT_LENGTH | FAULT_MAKE | FAULT_NAMES, ENOSPC },
        { "descriptors", FAULT_OPEN | FAULT_MAKE, EMFILE },
        { "rpc", FAULT_RPC, EIO },
        { "wire", FAULT_WIRE, EIO },
};

static struct faults faults;
static unsigned now;    /* the classes that failed last */
static char where[128]; /* "": no countdown is under way */

/* Of the file system that is meant. */
static unsigned count_descriptors(void)
{
        DIR *dir = opendir("/proc/self/fd");
        struct dirent *de;
        struct stat st;
        unsigned n = 0;

        assert_non_null(dir);
        while ((de = readdir(dir)))
                n += fstatat(dirfd(dir), de->d_name, &st, 0) == 0 && st.st_dev == faults.device;
        closedir(dir);
        return n;
}

/* One run of which call N and, unless ONCE, all later ones fail. Whether there was such a call. */
static bool run_once(const struct countdown_path *path, size_t kind, bool once, unsigned n,
                     struct countdown_result *ret)
{
        bool injected;
        int r;

        path->prepare(path->arg);
        faults.failed = 0;
        faults.skip = n;
        faults.times = once ? 1 : path->shared ? COUNTDOWN_SHARED_RUN : -1;
        faults.classes = now = kinds[kind].classes;
        faults.error = (uint64_t)kinds[kind].error;
        r = path->run(path->arg);
        faults.error = 0;
        faults.classes = 0;
        injected = faults.failed > 0;
        if (!injected)
                assert_true(r >= 0);
        path->check(path->arg, r);
        ret->injected += injected;
        ret->failed += injected && r < 0;
        ret->syncs += injected && now == FAULT_SYNC;
        return injected;
}

/* The same, and that nothing is left of it. */
static bool run_checked(const struct countdown_path *path, size_t kind, bool once, unsigned n,
                        struct countdown_result *ret)
{
        bool injected = false;
        unsigned leaks = 0;

        for (; leaks < LEAKS_PROVE; leaks++) {
                unsigned descriptors = count_descriptors();
                int64_t blocks = faults_live_blocks();

                injected = run_once(path, kind, once, n, ret);
                assert_int_equal(count_descriptors(), descriptors);
                if (path->shared || faults_live_blocks() <= blocks)
                        break;
        }
        assert_true(leaks < LEAKS_PROVE);
        return injected;
}

static bool is_wanted(const char *text)
{
        const char *only = getenv("FSYNCFS_COUNTDOWN");

        return !only || strcmp(only, text) == 0;
}

static unsigned next(unsigned n)
{
        const char *full = getenv("FSYNCFS_TEST_FULL");

        return n + 1 + ((full && strcmp(full, "1") == 0) || n < COUNTDOWN_ALL ? 0 : n / 2);
}

static void count_down(const struct countdown_path *path, size_t kind, bool once,
                       struct countdown_result *ret)
{
        bool injected = true;

        for (unsigned n = 0; injected; n = next(n)) {
                assert_true(n < CALLS_MAX);
                snprintf(where, sizeof(where), "%s/%s/%s/%u", path->name, kinds[kind].name,
                         once ? "once" : "on", n);
                if (is_wanted(where))
                        injected = run_checked(path, kind, once, n, ret);
                else if (n > CALLS_MAX / 2)
                        break;
        }
        where[0] = '\0';
}

void countdown(const struct countdown_path *path, const char *folder, struct countdown_result *ret)
{
        const unsigned classes = path->classes ? path->classes : 2 * FAULT_MEMORY - 1;
        struct stat st;

        assert_int_equal(stat(folder, &st), 0);
        faults.device = st.st_dev;
        faults_use(&faults, __executable_start, etext);
        for (size_t kind = 0; kind < ARRAY_SIZE(kinds); kind++)
                if ((kinds[kind].classes & classes) == kinds[kind].classes)
                        for (int once = 0; once < 2; once++)
                                count_down(path, kind, once, ret);
}

void countdown_begin(char *ret_path)
{
        log_setup("countdown", LOG_LEVEL_ERROR);
        strcpy(ret_path, "/dev/shm/countdown.XXXXXX");
        assert_non_null(mkdtemp(ret_path));
}

bool countdown_cannot_read(void)
{
        return now == FAULT_READ;
}

void countdown_where(void)
{
        faults.error = faults.classes = 0;
        if (where[0])
                print_message("# FSYNCFS_COUNTDOWN=%s\n", where);
        where[0] = '\0';
}

void countdown_report(const char *fault, const char *promised, const struct countdown_result *result)
{
        print_message("# RELIABILITY %s | each n-th call fails, alone or with those that follow: %llu runs | "
                      "%s | %llu"
                      " runs said so, the others came through; after each all was right, and the next "
                      "attempt went well\n",
                      fault, (unsigned long long)result->injected, promised,
                      (unsigned long long)result->failed);
}
