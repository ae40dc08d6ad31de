/*
 * Reads one file in one way and prints the seconds that it took: `sequential` by read(2) of 128 KiB, `random` 4 KiB at 250,000 places by pread(2),
 * `mapped` a byte of each page in order.
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE   4096
#define PLACES 250000

static char buffer[128 << 10];

static double now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void sequential(int fd, size_t size)
{
        size_t all = 0;
        ssize_t n;

        while ((n = read(fd, buffer, sizeof(buffer))) > 0)
                all += (size_t)n;
        if (n < 0 || all != size)
                err(1, "%zu of %zu bytes", all, size);
}

static void at_random(int fd, size_t size)
{
        uint64_t seed = 1;

        for (int i = 0; i < PLACES; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                if (pread(fd, buffer, PAGE, (off_t)((seed >> 20) % (size / PAGE) * PAGE)) != PAGE)
                        err(1, "pread");
        }
}

static void mapped(int fd, size_t size)
{
        const char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        unsigned long sum = 0;

        if (map == MAP_FAILED)
                err(1, "mmap");
        for (size_t at = 0; at < size; at += PAGE)
                sum += ((const volatile char *)map)[at];
        (void)sum;
}

int main(int argc, char **argv)
{
        static const struct {
                const char *name;
                void (*load)(int fd, size_t size);
        } loads[] = { { "sequential", sequential }, { "random", at_random }, { "mapped", mapped } };
        int fd = argc == 3 ? open(argv[2], O_RDONLY | O_CLOEXEC) : -1;
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                err(1, "usage: readload sequential|random|mapped FILE");
        memset(buffer, 1, sizeof(buffer));
        for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
                double start = now();

                if (strcmp(loads[i].name, argv[1]) != 0)
                        continue;
                loads[i].load(fd, (size_t)st.st_size);
                printf("%.6f\n", now() - start);
                return 0;
        }
        errx(1, "unknown load '%s'", argv[1]);
}
