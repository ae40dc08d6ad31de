#include "cli/remote_call.h"

#include <getopt.h>
#include <signal.h>
#include <string.h>

#include "base/log.h"
#include "cli/command.h"
#include "fs/mount_settings.h"

int remote_exit_code(int error)
{
        switch (-error) {
        case 0:
                return 0;
        case ENOENT:
                return EXIT_NOT_THERE;
        case EHOSTUNREACH:
        case ETIMEDOUT:
        case ECONNREFUSED:
        case EKEYREJECTED:
        case EACCES:
                return EXIT_NO_MASTER;
        default:
                return 1;
        }
}

/* ---- settings ---- */

/* One line is enough: `fsyncfs mount --check-config` has all. */
static void tell(void *arg, const char *fault)
{
        bool *told = arg;

        if (!*told)
                fprintf(stderr, "fsyncfs: %s\n", fault);
        *told = true;
}

static int read_settings(struct remote_call *call, const char *list)
{
        const struct mount_call mount = { .source = call->n_operands ? call->operands[0] : NULL,
                                          .list = list };
        struct mount_settings settings;
        struct failure failure = { 0 };
        bool told = false;
        int r = mount_settings_read(&call->mount, &mount, tell, &told, &settings) > 0 ? -EINVAL : 0;

        if (r == 0)
                call->cache_named = settings_have(&settings.settings, "cache");
        mount_settings_release(&settings);
        if (r == 0)
                r = mount_options_finish(&call->mount, &failure);
        if (r < 0)
                tell(&told, failure_text(&failure, r));
        return r;
}

/* ---- the call ---- */

/* LIST gets what is after each -o. 0; -EINVAL: a wrong call; -ENOMEM. */
static int read_options(int argc, char **argv, const char *letters, struct remote_call *call,
                        struct buffer *list)
{
        static const struct option options[] = { { "json", no_argument, NULL, 'j' },
                                                 { "color", required_argument, NULL, 'c' },
                                                 { 0 } };
        int opt, r = buffer_printf(list, "%s", "");

        while (r == 0 && (opt = getopt_long(argc, argv, "lRo:", options, NULL)) != -1) {
                if (opt == '?' || (opt != 'o' && !strchr(letters, opt)))
                        return -EINVAL;
                if (opt == 'c')
                        r = colour_when_parse(optarg, &call->colour);
                if (opt == 'o')
                        r = buffer_printf(list, "%s%s", list->len > 0 ? "," : "", optarg);
                call->json = call->json || opt == 'j';
                call->detailed = call->detailed || opt == 'l';
                call->recursive = call->recursive || opt == 'R';
        }
        call->operands = argv + optind;
        call->n_operands = argc - optind;
        return r;
}

static int read_call(int argc, char **argv, const char *letters, struct remote_call *call)
{
        const int most = strchr(letters, '2') ? 2 : 1, least = strchr(letters, '?') ? 0 : most;
        _cleanup_buffer_ struct buffer list = { 0 };
        int r = read_options(argc, argv, letters, call, &list);

        if (r == -EINVAL || (r == 0 && (call->n_operands < least || call->n_operands > most)))
                return command_usage(argv[0]);
        if (r == 0)
                r = mount_options_init(&call->mount);
        if (r == 0)
                return read_settings(call, list.data) < 0 ? EXIT_USAGE : 0;
        fprintf(stderr, "fsyncfs: %s\n", strerror(-r));
        return 1;
}

bool remote_call_parse(int argc, char **argv, const char *letters, struct remote_call *ret, int *ret_code)
{
        *ret = (struct remote_call){ 0 };
        *ret_code = read_call(argc, argv, letters, ret);
        if (*ret_code != 0) {
                mount_options_release(&ret->mount);
                return false;
        }
        log_setup("fsyncfs", LOG_LEVEL_ERROR);
        return true;
}

bool remote_call_open(struct remote_call *call, bool folder, bool whole, struct remote **ret,
                      struct catalog_entry *ret_top, int *ret_code)
{
        const struct remote_options options = {
                .source = call->operands[0],
                .mount = &call->mount,
                .cache_named = call->cache_named,
                .folder = folder,
                .whole = whole,
        };
        struct failure failure = { 0 };
        int r = call->mount.offline
                        ? failure_set(&failure, -EINVAL, "'offline' is for mounts: this asks the master")
                        : remote_open(&options, ret, ret_top, &failure);

        if (r == 0)
                return true;
        fprintf(stderr, "fsyncfs: %s\n", failure_text(&failure, r));
        mount_options_release(&call->mount);
        *ret_code = r == -EINVAL ? EXIT_USAGE : remote_exit_code(r);
        return false;
}

int remote_call_fail(const struct remote *remote, const char *what, int error)
{
        if (!remote_is_interrupted(remote) && error != -EPIPE)
                fprintf(stderr, "fsyncfs: '%s': %s\n", what,
                        error == -ESTALE ? "the master goes on replacing it" : strerror(-error));
        return remote_exit_code(error);
}

int remote_call_end(struct remote *remote, int error, int code)
{
        code = remote_close(remote, code);
        if (error == -EPIPE) {
                signal(SIGPIPE, SIG_DFL);
                raise(SIGPIPE);
        }
        return code;
}
