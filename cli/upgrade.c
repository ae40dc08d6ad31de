#include "cli/command.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"
#include "cli/mounts.h"
#include "fs/control.h"

#define POLL_MS 50

struct counts {
        json_int_t done, failed;
};

static int get_counts(const char *path, struct counts *ret, struct failure *failure)
{
        json_t *status;
        int r = control_ask(path, "status", &status, failure);

        if (r < 0)
                return r;
        ret->done = json_integer_value(json_object_get(status, "upgrades"));
        ret->failed = json_integer_value(json_object_get(status, "failed_upgrades"));
        json_decref(status);
        return 0;
}

/* Between the two daemons nobody answers. */
static int await_outcome(const char *path, const struct counts *before, struct failure *failure)
{
        const int64_t until_ns = clock_monotonic_ns() + CONTROL_BETWEEN_SEC * NSEC_PER_SEC;
        struct counts now = *before;

        while (now.done == before->done && now.failed == before->failed) {
                if (clock_monotonic_ns() > until_ns)
                        return failure_set(failure, -ETIMEDOUT, "no word from the daemon; see the log");
                poll(NULL, 0, POLL_MS);
                (void)get_counts(path, &now, failure);
        }
        if (now.done == before->done)
                return failure_set(failure, -ECANCELED,
                                   "the new program did not come up, the old one goes on; see the log");
        return 0;
}

static int upgrade(const char *path, const char *program)
{
        _cleanup_free_ char *command = NULL;
        struct failure failure = { 0 };
        struct counts before;
        json_t *reply;
        int r = asprintf(&command, "upgrade %s", program) < 0 ? -ENOMEM : 0;

        if (r < 0)
                command = NULL;
        if (r == 0)
                r = get_counts(path, &before, &failure);
        if (r == 0) {
                r = control_ask(path, command, &reply, &failure);
                if (r == 0)
                        json_decref(reply);
                if (r == 0 || r == -EPIPE) /* it was replaced before it could answer */
                        r = await_outcome(path, &before, &failure);
        }
        if (r < 0)
                fprintf(stderr, "fsyncfs: cannot upgrade '%s': %s\n", path, failure_text(&failure, r));
        else
                printf("%s: upgraded\n", path);
        return r;
}

struct all {
        const char *program;
        bool failed;
};

static int upgrade_one(const struct mountinfo *info, void *arg)
{
        struct all *all = arg;

        if (upgrade(info->target, all->program) < 0)
                all->failed = true;
        return 0;
}

int command_upgrade(int argc, char **argv)
{
        char program[PATH_MAX];
        struct all all = { .program = program };
        ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);

        if (argc > 2 || (argc == 2 && argv[1][0] == '-'))
                return command_usage("upgrade");
        if (n < 0) {
                fprintf(stderr, "fsyncfs: cannot find out what program this is: %s\n", strerror(errno));
                return 1;
        }
        program[n] = '\0';
        if (argc == 2)
                return upgrade(argv[1], program) < 0 ? 1 : 0;
        return mounts_each(upgrade_one, &all) < 0 || all.failed ? 1 : 0;
}
