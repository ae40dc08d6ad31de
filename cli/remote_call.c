#include "cli/remote_call.h"

#include <getopt.h>
#include <signal.h>
#include <string.h>

#include "base/log.h"
#include "cli/command.h"

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

static int add_options(struct remote_call *call, const char *list)
{
        const char *before = call->mount.cache_dir;
        struct failure failure = { 0 };
        int r = mount_options_parse(&call->mount, list, &failure);

        if (r < 0)
                fprintf(stderr, "fsyncfs: %s\n", failure_text(&failure, r));
        call->cache_named = call->cache_named || call->mount.cache_dir != before;
        return r;
}

static int check_options(struct remote_call *call)
{
        struct failure failure = { 0 };
        int r = mount_options_finish(&call->mount, &failure);

        if (r == 0 && call->mount.offline)
                r = failure_set(&failure, -EINVAL, "'offline' is for mounts: this asks the master");
        if (r < 0)
                fprintf(stderr, "fsyncfs: %s\n", failure_text(&failure, r));
        return r;
}

/* 0; -EINVAL: a wrong call, said or to be answered by the usage; 1: only help was wanted. */
static int read_options(int argc, char **argv, const char *usage, const char *letters,
                        struct remote_call *call)
{
        static const struct option options[] = { { "json", no_argument, NULL, 'j' },
                                                 { "help", no_argument, NULL, 'h' },
                                                 { 0 } };
        int opt;

        while ((opt = getopt_long(argc, argv, "lRo:", options, NULL)) != -1) {
                if (opt == 'h') {
                        fputs(usage, stdout);
                        return 1;
                }
                if (opt == '?' || ((opt == 'l' || opt == 'R' || opt == 'j') && !strchr(letters, opt)) ||
                    (opt == 'o' && add_options(call, optarg) < 0))
                        return -EINVAL;
                call->json = call->json || opt == 'j';
                call->detailed = call->detailed || opt == 'l';
                call->recursive = call->recursive || opt == 'R';
        }
        call->operands = argv + optind;
        call->n_operands = argc - optind;
        return check_options(call);
}

bool remote_call_parse(int argc, char **argv, const char *usage, const char *letters, struct remote_call *ret,
                       int *ret_code)
{
        const int most = strchr(letters, '2') ? 2 : 1, least = strchr(letters, '?') ? 0 : most;
        int r;

        *ret = (struct remote_call){ 0 };
        r = mount_options_init(&ret->mount);
        if (r == 0)
                r = read_options(argc, argv, usage, letters, ret);
        if (r == 0 && (ret->n_operands < least || ret->n_operands > most)) {
                fputs(usage, stderr);
                r = -EINVAL;
        }
        if (r == 0) {
                log_setup("fsyncfs", LOG_LEVEL_ERROR);
                return true;
        }
        mount_options_release(&ret->mount);
        *ret_code = r > 0 ? 0 : EXIT_USAGE;
        return false;
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
        int r = remote_open(&options, ret, ret_top, &failure);

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
