/*
 * fsyncfs: the operator's command, and, under the name mount.fsyncfs, the helper that mount(8) calls.
 */
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "cli/command.h"

static const char usage[] =
        "usage: fsyncfs COMMAND [ARGUMENTS]\n"
        "\n"
        "  mount SOURCE DIR [-o OPTIONS] [-f]   mount a workspace; -f stays in the foreground\n"
        "  status [DIR] [--json]                what a mount, or every mount, is doing\n"
        "  version DIR                          the version mounted: digest and revision\n"
        "  refresh DIR [--stat-pass]            bring a mount up to date now; the master looks at all its "
        "files\n"
        "  diff DIR [--json]                    what a refresh would change; nothing does\n"
        "  prefetch DIR|PATH... [--json]        fetch all contents at or below a path now\n"
        "  ls [-lR] SOURCE[/PATH] [--json]      list a master's folder, without a mount\n"
        "  cat SOURCE/PATH                      write a master's file to standard output\n"
        "  export SOURCE[/PATH] DIR|-           copy a master's tree into a folder, or as a tar stream\n"
        "  top [DIR] [--batch N] [--json]       what mounts are doing, until q is pressed\n"
        "  trace [DIR] [--json]                 each request that waits, as it happens, and why\n"
        "  explain PID|CGROUP [DIR] [--json]    what a task waited for\n"
        "  doctor [SOURCE] [-o OPTIONS] [--json]\n"
        "                                       what a mount needs of this machine and of a master, and what "
        "to do\n"
        "  bugreport [DIR] [-o FILE.tar.gz]     what is needed to find out what is wrong, without secrets\n"
        "  upgrade [DIR]                        have this program serve a mount, or every one, from now on\n"
        "  stat PATH [--json]                   a file's hash, and whether it is in the cache\n"
        "  cache stat|list|verify|pins|gc [--cache DIR] [--json]\n"
        "                                       the local store of contents\n"
        "  cache evict [--to SIZE]              drop the least recently used that are neither open nor "
        "pinned\n"
        "  cache pin|unpin PATH|HASH...         keep contents, whatever the quota\n"
        "\n"
        "SOURCE is HOST[:PORT][,HOST...]:/SPIDER[/PATH] or unix:SOCKET:/SPIDER; umount DIR ends a mount.\n"
        "  --help, --version\n";

static const struct command {
        const char *name;
        int (*run)(int argc, char **argv);
} commands[] = {
        { "mount", command_mount },     { "status", command_status },       { "version", command_version },
        { "refresh", command_refresh }, { "prefetch", command_prefetch },   { "stat", command_stat },
        { "cache", command_cache },     { "upgrade", command_upgrade },     { "ls", command_ls },
        { "cat", command_cat },         { "export", command_export },       { "trace", command_trace },
        { "explain", command_explain }, { "doctor", command_doctor },       { "top", command_top },
        { "diff", command_diff },       { "bugreport", command_bugreport },
};

int main(int argc, char **argv)
{
        const char *program = argc > 0 ? strrchr(argv[0], '/') : NULL;

        io_reserve_standard_fds();
        program = program ? program + 1 : argc > 0 ? argv[0] : "fsyncfs";
        if (strncmp(program, "mount.", 6) == 0) {
                log_setup("mount.fsyncfs", LOG_LEVEL_INFO);
                return command_mount_helper(argc, argv);
        }
        log_setup("fsyncfs", LOG_LEVEL_INFO);
        if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
                fputs(usage, stdout);
                return 0;
        }
        if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
                puts("fsyncfs " FSYNCFS_VERSION);
                return 0;
        }
        for (size_t i = 0; argc >= 2 && i < ARRAY_SIZE(commands); i++)
                if (strcmp(argv[1], commands[i].name) == 0)
                        return commands[i].run(argc - 1, argv + 1);
        if (argc >= 2)
                fprintf(stderr, "fsyncfs: unknown command '%s'; see fsyncfs --help\n", argv[1]);
        else
                fputs(usage, stderr);
        return EXIT_USAGE;
}
