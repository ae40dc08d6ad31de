/*
 * For code that stands in front of the C library's functions: before it (LD_PRELOAD), or in a program that exports what its libraries call.
 */
#pragma once

#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>

#define PUBLIC __attribute__((visibility("default")))

/** The function NAME of who comes next. */
#define REAL(name)                                                                                           \
        ({                                                                                                   \
                static __typeof__(name) *real_;                                                              \
                if (!real_)                                                                                  \
                        real_ = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);                                 \
                real_;                                                                                       \
        })

/** In syscall(2): the arguments after NUMBER, into the array A of six. */
#define ARGUMENTS_AFTER(number, a)                                                                           \
        do {                                                                                                 \
                va_list ap_;                                                                                 \
                va_start(ap_, number);                                                                       \
                for (int i_ = 0; i_ < 6; i_++)                                                               \
                        (a)[i_] = va_arg(ap_, long);                                                         \
                va_end(ap_);                                                                                 \
        } while (0)

/** In a function like open(2): the mode that follows FLAGS, its last named argument. */
#define MODE_AFTER(flags)                                                                                    \
        ({                                                                                                   \
                mode_t mode_ = 0;                                                                            \
                va_list ap_;                                                                                 \
                if (flags & (O_CREAT | O_TMPFILE)) {                                                         \
                        va_start(ap_, flags);                                                                \
                        mode_ = va_arg(ap_, mode_t);                                                         \
                        va_end(ap_);                                                                         \
                }                                                                                            \
                mode_;                                                                                       \
        })
