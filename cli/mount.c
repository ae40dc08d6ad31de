#include "cli/command.h"

#include <getopt.h>
#include <stdbool.h>
#include <string.h>

#include "fs/mount.h"
#include "fs/mount_settings.h"

/* What the command line says. */
struct call {
        struct buffer list; /* owned: all after -o, and --config */
        bool f, f_is_fake;  /* -f: in the foreground, or as mount(8) says it: only as if */
        bool check;         /* --check-config */
        char **words;       /* what is left over: SOURCE and DIR */
        int n_words;
};

/* ---- reading the call ---- */

static int add_list(struct call *call, const char *name, const char *list)
{
        return buffer_printf(&call->list, "%s%s%s", call->list.len > 0 ? "," : "", name, list);
}

/* LETTERS as for getopt(3): -o, -f and what is taken and ignored. */
static int parse_call(int argc, char **argv, const char *letters, struct call *ret)
{
        static const struct option longs[] = {
                { "config", required_argument, NULL, 'C' },
                { "check-config", no_argument, NULL, 'K' },
                { 0 },
        };
        int opt, r = buffer_printf(&ret->list, "%s", "");

        while (r == 0 && (opt = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
                if (opt == '?')
                        return -EINVAL;
                if (opt == 'f')
                        ret->f = true;
                if (opt == 'K')
                        ret->check = true;
                if (opt == 'o')
                        r = add_list(ret, "", optarg);
                if (opt == 'C')
                        r = add_list(ret, "config=", optarg);
        }
        ret->words = argv + optind;
        ret->n_words = argc - optind;
        return r;
}

/* ---- settings ---- */

static bool read_settings(const struct call *call, struct mount_options *options,
                          struct mount_settings *settings)
{
        const struct mount_call mount = {
                .source = call->n_words > 0 ? call->words[0] : NULL,
                .target = call->n_words > 1 ? call->words[1] : NULL,
                .list = call->list.data,
                .check = call->check,
        };
        struct settings_faults faults = { .program = "mount.fsyncfs", .all = call->check };
        struct failure failure = { 0 };

        if (mount_settings_read(options, &mount, settings_tell_fault, &faults, settings) == 0 &&
            mount_options_finish(options, &failure) < 0)
                settings_tell_fault(&faults, failure.text);
        return faults.n == 0;
}

static int check_config(const struct call *call)
{
        struct mount_options options;
        struct mount_settings settings;
        bool fine;

        if (mount_options_init(&options) < 0)
                return MOUNT_EXIT_SYSTEM;
        fine = read_settings(call, &options, &settings);
        puts("[mount]");
        settings_print(&settings.settings, stdout);
        mount_settings_release(&settings);
        mount_options_release(&options);
        return fine ? MOUNT_EXIT_OK : MOUNT_EXIT_USAGE;
}

/* ---- running ---- */

/* Settles OPTIONS, also for a program that may take the mount over later. */
static int settle(const struct call *call, struct mount_options *options)
{
        struct mount_settings settings;
        int code = MOUNT_EXIT_OK;

        if (mount_options_init(options) < 0)
                return MOUNT_EXIT_SYSTEM;
        if (!read_settings(call, options, &settings))
                code = MOUNT_EXIT_USAGE;
        else if (mount_settings_export(&settings) < 0)
                code = MOUNT_EXIT_SYSTEM;
        mount_settings_release(&settings);
        if (code != MOUNT_EXIT_OK)
                mount_options_release(options);
        return code;
}

static int run(const struct call *call)
{
        struct mount_options options;
        struct mount_request request = { .options = &options, .foreground = call->f && !call->f_is_fake };
        int code;

        if (call->n_words != 2) {
                fprintf(stderr, "mount.fsyncfs: expected SOURCE and DIR, as in: mount -t fsyncfs "
                                "master:/SPIDER /mnt\n");
                return MOUNT_EXIT_USAGE;
        }
        code = settle(call, &options);
        if (code != MOUNT_EXIT_OK)
                return code;
        if (call->f && call->f_is_fake) {
                mount_options_release(&options);
                return MOUNT_EXIT_OK;
        }
        request.source = call->words[0];
        request.target = call->words[1];
        return mount_run(&request);
}

static int parse_and_run(int argc, char **argv, const char *letters, bool f_is_fake)
{
        struct call call = { .f_is_fake = f_is_fake };
        int code = MOUNT_EXIT_USAGE;

        if (parse_call(argc, argv, letters, &call) == 0)
                code = call.check ? check_config(&call) : run(&call);
        buffer_release(&call.list);
        return code;
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
