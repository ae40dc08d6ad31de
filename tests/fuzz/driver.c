#include "tests/fuzz/driver.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"

#ifdef FUZZ_LIBFUZZER

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
        fuzz_one(data, len);
        return 0;
}

#else

#define DAMAGES_DEFAULT 5000
#define FULL_TIMES      4 /* as many with FSYNCFS_TEST_FULL=1 */
#define INPUT_BYTES_MAX ((size_t)1 << 20)

/* xorshift: the same damages in every run, so that a failure can be repeated. */
static uint32_t next_random(uint32_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        return *state;
}

/* A copy in memory of its own and of its exact size, so that the sanitizer sees a read beyond the end. */
static bool feed(const uint8_t *data, size_t len)
{
        uint8_t *copy = malloc(len > 0 ? len : 1);

        if (!copy)
                return false;
        memcpy(copy, data, len);
        fuzz_one(copy, len);
        free(copy);
        return true;
}

static bool damage_and_feed(const uint8_t *data, size_t len, uint32_t *random)
{
        static const uint8_t edges[] = { 0x00, 0x01, 0x7f, 0x80, 0xff, '/', '.' };
        _cleanup_free_ uint8_t *copy = malloc(len + 1);
        unsigned changes = 1 + next_random(random) % 4;

        if (!copy)
                return false;
        memcpy(copy, data, len);
        if (len > 0 && next_random(random) % 4 == 0)
                len = next_random(random) % len; /* cut short */
        for (unsigned i = 0; i < changes && len > 0; i++) {
                uint8_t *byte = &copy[next_random(random) % len];
                if (next_random(random) % 2)
                        *byte = edges[next_random(random) % ARRAY_SIZE(edges)];
                else
                        *byte ^= (uint8_t)(1u << next_random(random) % 8);
        }
        return feed(copy, len);
}

/* The input as it is, then damaged: true if all of it was fed (a parser that fails ends the program). */
static bool replay(int dirfd, const char *name, int damages)
{
        _cleanup_buffer_ struct buffer input = { 0 };
        uint32_t random = 0x9e3779b9;
        int r = io_read_file(dirfd, name, INPUT_BYTES_MAX, &input);

        if (r < 0) {
                printf("# cannot read %s: %s\n", name, strerror(-r));
                return false;
        }
        if (!feed((const uint8_t *)input.data, input.len))
                return false;
        for (int i = 0; i < damages; i++)
                if (!damage_and_feed((const uint8_t *)input.data, input.len, &random))
                        return false;
        return true;
}

static bool is_full(void)
{
        const char *full = getenv("FSYNCFS_TEST_FULL");

        return full && strcmp(full, "1") == 0;
}

int main(int argc, char **argv)
{
        struct dirent **names = NULL;
        bool called = argc == 2 || argc == 3;
        int count = called ? scandir(argv[1], &names, NULL, alphasort) : -1, points = 0, failed = 0;
        int damages = (argc == 3 ? atoi(argv[2]) : DAMAGES_DEFAULT) * (is_full() ? FULL_TIMES : 1);
        _cleanup_close_ int dirfd = called ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

        if (count < 0 || dirfd < 0) {
                fprintf(stderr, "usage: %s FOLDER-OF-INPUTS [DAMAGED-COPIES-OF-EACH]\n", argv[0]);
                return 2;
        }
        for (int i = 0; i < count; i++) {
                if (names[i]->d_name[0] != '.') {
                        bool ok = replay(dirfd, names[i]->d_name, damages);
                        printf("%s %d - %s and %d damaged copies\n", ok ? "ok" : "not ok", ++points,
                               names[i]->d_name, damages);
                        failed += !ok;
                }
                free(names[i]);
        }
        free(names);
        printf("1..%d\n", points);
        return failed > 0 || points == 0;
}

#endif
