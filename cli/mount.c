#include "cli/command.h"

#include <getopt.h>
#include <stdbool.h>
#include <string.h>

#include "fs/mount.h"

/* What both spellings have in common: the words that are left over are SOURCE and DIR. */
static int run(struct mount_options *options, int argc, char **argv, bool foreground)
{
        struct mount_request request = { .options = options, .foreground = foreground };

        if (argc != 2) {
                fprintf(stderr, "mount.fsyncfs: expected SOURCE and DIR, as in: mount -t fsyncfs "
                                "master:/SPIDER /mnt\n");
                mount_options_release(options);
                return MOUNT_EXIT_USAGE;
        }
        request.source = argv[0];
        request.target = argv[1];
        return mount_run(&request);
}

static int add_options(struct mount_options *options, const char *list)
{
        struct failure failure = { 0 };
        int r = mount_options_parse(options, list, &failure);

        if (r < 0)
                fprintf(stderr, "mount.fsyncfs: %s\n", failure_text(&failure, r));
        return r;
}

static int finish_options(struct mount_options *options)
{
        struct failure failure = { 0 };
        int r = mount_options_finish(options, &failure);

        if (r < 0)
                fprintf(stderr, "mount.fsyncfs: %s\n", failure_text(&failure, r));
        return r;
}

/* LETTERS as for getopt(3): -o, -f and what is taken and ignored. */
static int parse_and_run(int argc, char **argv, const char *letters, bool f_is_fake)
{
        struct mount_options options;
        bool f = false;
        int opt;

        if (mount_options_init(&options) < 0)
                return MOUNT_EXIT_SYSTEM;
        while ((opt = getopt(argc, argv, letters)) != -1) {
                if (opt == 'f')
                        f = true;
                if (opt == '?' || (opt == 'o' && add_options(&options, optarg) < 0)) {
                        mount_options_release(&options);
                        return MOUNT_EXIT_USAGE;
                }
        }
        if (f && f_is_fake) {
                mount_options_release(&options);
                return MOUNT_EXIT_OK;
        }
        if (finish_options(&options) < 0) {
                mount_options_release(&options);
                return MOUNT_EXIT_USAGE;
        }
        return run(&options, argc - optind, argv + optind, f);
}

int command_mount(int argc, char **argv)
{
        return parse_and_run(argc, argv, "o:f", false);
}

/* As mount(8) calls its helpers: SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE] */
int command_mount_helper(int argc, char **argv)
{
        return parse_and_run(argc, argv, "sfnvN:o:t:", true);
}
