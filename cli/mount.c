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

int command_mount(int argc, char **argv)
{
        struct mount_options options;
        bool foreground = false;
        int opt;

        if (mount_options_init(&options) < 0)
                return MOUNT_EXIT_SYSTEM;
        while ((opt = getopt(argc, argv, "o:f")) != -1) {
                if (opt == 'f')
                        foreground = true;
                if (opt == '?' || (opt == 'o' && add_options(&options, optarg) < 0)) {
                        mount_options_release(&options);
                        return MOUNT_EXIT_USAGE;
                }
        }
        return run(&options, argc - optind, argv + optind, foreground);
}

/* As mount(8) calls its helpers: SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE] */
int command_mount_helper(int argc, char **argv)
{
        struct mount_options options;
        bool fake = false;
        int opt;

        if (mount_options_init(&options) < 0)
                return MOUNT_EXIT_SYSTEM;
        while ((opt = getopt(argc, argv, "sfnvN:o:t:")) != -1) {
                if (opt == 'f')
                        fake = true;
                if (opt == '?' || (opt == 'o' && add_options(&options, optarg) < 0)) {
                        mount_options_release(&options);
                        return MOUNT_EXIT_USAGE;
                }
        }
        if (fake) {
                mount_options_release(&options);
                return MOUNT_EXIT_OK;
        }
        return run(&options, argc - optind, argv + optind, false);
}
