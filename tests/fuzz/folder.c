#include "tests/fuzz/folder.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "tests/tempdir.h"

#define CHANGE_BYTES 6
#define FILE_MAX     ((size_t)8 << 20)

static char made[64];

static void remove_made(void)
{
        tempdir_remove(made);
}

const char *folder_new(void)
{
        const char *shm = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

        snprintf(made, sizeof(made), "%s/fsyncfs-fuzz.XXXXXX", shm);
        assert(mkdtemp(made));
        atexit(remove_made);
        return made;
}

/* One change of the LEN bytes at FILE; the new length. */
static size_t change(uint8_t *file, size_t len, const uint8_t *how)
{
        size_t offset = (size_t)how[0] << 16 | (size_t)how[1] << 8 | how[2];

        if (len == 0)
                return 0;
        offset %= len;
        if (how[3] & 1)
                offset = len - 1 - offset;
        if (how[3] >= 0xf0)
                return offset;
        file[offset] = how[4];
        if (offset + 1 < len)
                file[offset + 1] ^= how[5];
        return len;
}

void folder_copy_damaged(const char *from, const char *to, const uint8_t *data, size_t len)
{
        _cleanup_buffer_ struct buffer file = { 0 };
        _cleanup_close_ int fd = -1;
        size_t file_len;

        assert(io_read_file(AT_FDCWD, from, FILE_MAX, &file) == 0);
        file_len = file.len;
        for (size_t i = 0; i + CHANGE_BYTES <= len; i += CHANGE_BYTES)
                file_len = change((uint8_t *)file.data, file_len, data + i);
        fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert(fd >= 0 && io_write_all(fd, file.data, file_len) == 0);
}
