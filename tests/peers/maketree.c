/*
 * maketree ROOT wide|deep FOLDERS FILES: makes a large tree for scale tests and benchmarks, the same every time.
 *   wide  FOLDERS folders side by side with FILES files in each
 *   deep  FOLDERS folders within each other at random, at most 12 deep, with FILES files in each
 * Every file has 512 bytes of its own. ROOT must not exist.
 */
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES 512
#define DEPTH_MAX  12

static uint64_t state = 88172645463325252u;

static uint64_t next_random(void) /* xorshift64 */
{
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
}

static void make_folder(const char *path)
{
        if (mkdir(path, 0755) < 0)
                err(1, "%s", path);
}

static void make_file(const char *path)
{
        uint64_t data[FILE_BYTES / sizeof(uint64_t)];
        int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);

        for (size_t i = 0; i < FILE_BYTES / sizeof(uint64_t); i++)
                data[i] = next_random();
        if (fd < 0 || write(fd, data, sizeof(data)) != (ssize_t)sizeof(data) || close(fd) < 0)
                err(1, "%s", path);
}

static void make_wide(const char *root, unsigned n_folders, unsigned n_files)
{
        char path[PATH_MAX];

        for (unsigned i = 0; i < n_folders; i++) {
                snprintf(path, sizeof(path), "%s/dir%04u", root, i);
                make_folder(path);
                for (unsigned j = 0; j < n_files; j++) {
                        snprintf(path, sizeof(path), "%s/dir%04u/file_%04u.py", root, i, j);
                        make_file(path);
                }
        }
}

struct folder {
        char *path;
        unsigned depth;
};

/* A folder's parent: the one before it for the first, so that the full depth occurs; then any that is not too deep. */
static const struct folder *choose_parent(const struct folder *folders, unsigned n)
{
        const struct folder *parent = &folders[n - 1];

        if (n < DEPTH_MAX)
                return parent;
        do
                parent = &folders[next_random() % n];
        while (parent->depth >= DEPTH_MAX);
        return parent;
}

static void make_deep(const char *root, unsigned n_folders, unsigned n_files)
{
        struct folder *folders = calloc(n_folders, sizeof(*folders));
        char path[PATH_MAX];

        if (!folders)
                err(1, "calloc");
        folders[0].path = strdup(root);
        for (unsigned i = 1; i < n_folders; i++) {
                const struct folder *parent = choose_parent(folders, i);

                snprintf(path, sizeof(path), "%s/pkg%u", parent->path, i);
                folders[i] = (struct folder){ .path = strdup(path), .depth = parent->depth + 1 };
                make_folder(path);
        }
        for (unsigned i = 0; i < n_folders; i++) {
                for (unsigned j = 0; j < n_files; j++) {
                        snprintf(path, sizeof(path), "%s/mod_%u.py", folders[i].path, j);
                        make_file(path);
                }
                free(folders[i].path);
        }
        free(folders);
}

int main(int argc, char **argv)
{
        unsigned long n_folders, n_files;

        if (argc != 5 || (strcmp(argv[2], "wide") != 0 && strcmp(argv[2], "deep") != 0))
                errx(2, "usage: maketree ROOT wide|deep FOLDERS FILES");
        n_folders = strtoul(argv[3], NULL, 10);
        n_files = strtoul(argv[4], NULL, 10);
        if (n_folders == 0 || n_folders > 10000000 || n_files > 10000000)
                errx(2, "so many folders or files make no sense");
        make_folder(argv[1]);
        if (argv[2][0] == 'w')
                make_wide(argv[1], (unsigned)n_folders, (unsigned)n_files);
        else
                make_deep(argv[1], (unsigned)n_folders, (unsigned)n_files);
        return 0;
}
