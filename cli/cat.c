#include "cli/command.h"

#include <string.h>

#include "base/io.h"
#include "cli/remote_call.h"

#define FOLLOW_MAX 5 /* how often a file that the master replaces is begun anew */

struct output {
        uint64_t bytes;
};

static int write_out(const void *data, size_t len, void *arg)
{
        ((struct output *)arg)->bytes += len;
        return io_write_all(STDOUT_FILENO, data, len);
}

/* What has been written cannot be taken back: only who has not begun may begin anew. */
static int print(struct remote *remote, struct catalog_entry *file)
{
        struct output output = { 0 };
        int r;

        for (int i = 0; i < FOLLOW_MAX; i++) {
                struct remote_wait ahead = { 0 };

                r = remote_read(remote, file, &ahead, write_out, &output);
                if (r != -ESTALE || output.bytes > 0 || remote_follow(remote, file) < 0)
                        break;
        }
        return r;
}

int command_cat(int argc, char **argv)
{
        struct remote_call call;
        struct catalog_entry file;
        struct remote *remote;
        int r, code = 0;

        if (!remote_call_parse(argc, argv, "", &call, &code) ||
            !remote_call_open(&call, false, false, &remote, &file, &code))
                return code;
        r = file.kind == ENTRY_FILE ? print(remote, &file) : file.kind == ENTRY_DIRECTORY ? -EISDIR : -ELOOP;
        if (r == -ELOOP)
                fprintf(stderr, "fsyncfs: '%s': a symbolic link, which only a mount follows\n",
                        call.operands[0]);
        else if (r < 0)
                (void)remote_call_fail(remote, call.operands[0], r);
        return remote_call_end(remote, r, remote_exit_code(r));
}
