/*
 * fsyncfs: the operator's command, and, under the name mount.fsyncfs, the helper that mount(8) calls.
 */
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "cli/command.h"
#include "fs/mount.h"

/* clang-format off */
const struct command command_table[] = {
        { "mount", "SOURCE DIR [-o OPTIONS] [-f] [--config FILE] [--check-config]", "mount a workspace", command_mount, MOUNT_EXIT_USAGE },
        { "status", "[DIR] [--json]", "what a mount, or every mount, is doing", command_status, 0 },
        { "version", "DIR [--json]", "which version is mounted: digest and revision", command_version, 0 },
        { "refresh", "DIR [--stat-pass] [--json]", "bring a mount up to date now", command_refresh, 0 },
        { "prefetch", "DIR|PATH... [--json]", "fetch all contents at or below a path now", command_prefetch, 0 },
        { "diff", "DIR [--json]", "what a refresh would change; nothing does", command_diff, 0 },
        { "ls", "[-lR] SOURCE[/PATH] [-o OPTIONS] [--json]", "list a master's folder, without a mount", command_ls, 0 },
        { "cat", "SOURCE/PATH [-o OPTIONS]", "write a master's file to standard output", command_cat, 0 },
        { "export", "SOURCE[/PATH] DIR|- [-o OPTIONS] [--json]", "copy a master's tree into a folder, or as a tar", command_export, 0 },
        { "top", "[DIR] [--batch N] [--interval SECONDS] [--json]", "what mounts are doing, until q is pressed", command_top, 0 },
        { "trace", "[DIR] [--json]", "each request that waits, as it happens, and why", command_trace, 0 },
        { "explain", "PID|CGROUP [DIR] [--json]", "what a task waited for", command_explain, 0 },
        { "doctor", "[SOURCE] [-o OPTIONS] [--json] [--color WHEN]", "what is wrong here or on the way to a master", command_doctor, 0 },
        { "bugreport", "[DIR] [-o FILE.tar.gz]", "collect what is needed to find out what is wrong", command_bugreport, 0 },
        { "upgrade", "[DIR]", "have this program serve a mount, or every one, from now on", command_upgrade, 0 },
        { "stat", "PATH [--json]", "a file's hash, and whether it is in the cache", command_stat, 0 },
        { "cache", "COMMAND", "look at or change the local store of contents", command_cache, 0 },
        { "cache stat", "[--cache DIR] [--domain NAME] [--all] [--json]", "how much is in it", command_cache, 0 },
        { "cache list", "[--cache DIR] [--domain NAME] [--all] [--json]", "the hashes and sizes of all contents", command_cache, 0 },
        { "cache pins", "[--cache DIR] [--domain NAME] [--all] [--json]", "those that are pinned", command_cache, 0 },
        { "cache verify", "[--repair] [--cache DIR] [--domain NAME] [--all] [--json]", "check all contents and catalogs", command_cache, 0 },
        { "cache gc", "[--cache DIR] [--domain NAME] [--all] [--json]", "remove what is quarantined, left over or long unused", command_cache, 0 },
        { "cache evict", "[--to SIZE] [--cache DIR] [--domain NAME] [--all] [--json]", "drop what was least recently used", command_cache, 0 },
        { "cache pin", "PATH|HASH... [--cache DIR] [--domain NAME] [--json]", "keep contents, whatever the quota", command_cache, 0 },
        { "cache unpin", "PATH|HASH... [--cache DIR] [--domain NAME] [--json]", "keep them no longer", command_cache, 0 },
        { "complete", "WORD...", NULL, command_complete, 0 },
};
/* clang-format on */
const size_t command_count = ARRAY_SIZE(command_table);

static int run_command(int argc, char **argv)
{
        const struct command *command = command_find(argc - 1, argv + 1);
        int code;

        if (!command)
                return command_say_unknown(argc - 1, argv + 1);
        /* Its words are somebody's words, whatever they look like. */
        if (command->run != command_complete && command_answer(command, argc - 1, argv + 1, &code))
                return code;
        return command->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
        const char *program = argc > 0 ? strrchr(argv[0], '/') : NULL;

        io_reserve_standard_fds();
        program = program ? program + 1 : argc > 0 ? argv[0] : "fsyncfs";
        if (strncmp(program, "mount.", 6) == 0) {
                log_setup("mount.fsyncfs", LOG_LEVEL_INFO);
                if (argc == 2 && strcmp(argv[1], "--help") == 0)
                        return command_help(1, (char *[]){ (char[]){ "mount" } });
                return command_mount_helper(argc, argv);
        }
        log_setup("fsyncfs", LOG_LEVEL_INFO);
        if (argc < 2 || strcmp(argv[1], "--help") == 0)
                return command_help(0, argc < 2 ? NULL : argv);
        if (strcmp(argv[1], "help") == 0)
                return command_help(argc - 2, argv + 2);
        if (strcmp(argv[1], "--version") == 0) {
                puts("fsyncfs " FSYNCFS_VERSION);
                return 0;
        }
        return run_command(argc, argv);
}
