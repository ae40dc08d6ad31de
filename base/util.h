/*
 * Small things every room uses: clean-up attributes, array and arithmetic helpers.
 * Not a home for anything that has a concept of its own.
 */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a)  (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)      ((a) < (b) ? (a) : (b))
#define MAX(a, b)      ((a) > (b) ? (a) : (b))
#define _unused_       __attribute__((unused))
#define _printf_(f, a) __attribute__((format(printf, f, a)))

/** Calls FUNC(variable) when VARIABLE's scope ends. */
#define _cleanup_(func) __attribute__((cleanup(func)))

static inline void cleanup_free(void *p)
{
        free(*(void **)p);
}

static inline void cleanup_close(const int *fd)
{
        if (*fd >= 0) {
                int saved = errno;
                close(*fd);
                errno = saved;
        }
}

static inline void cleanup_fclose(FILE **f)
{
        if (*f)
                fclose(*f);
}

#define _cleanup_free_   _cleanup_(cleanup_free)
#define _cleanup_close_  _cleanup_(cleanup_close)
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)

/** Moves a pointer out of its variable: returns the value, leaves NULL. */
#define TAKE_PTR(p)                                                                                          \
        ({                                                                                                   \
                __typeof__(p) taken_ = (p);                                                                  \
                (p) = NULL;                                                                                  \
                taken_;                                                                                      \
        })

/** Moves a descriptor out of its variable: returns the value, leaves -1. */
static inline int take_fd(int *fd)
{
        int taken = *fd;
        *fd = -1;
        return taken;
}
