/*
 * How ls, cat and export are called: the options that they share with a mount, and how they end.
 */
#pragma once

#include "cli/colour.h"
#include "cli/remote.h"

/** Exit codes beside 0, 1 and EXIT_USAGE. */
#define EXIT_NOT_THERE 3 /* no such spider or path */
#define EXIT_NO_MASTER 4 /* no master answers, or it lets nobody in */

struct remote_call {
        struct mount_options mount; /* of configuration, environment and -o */
        bool cache_named;           /* in any of them */
        bool json, detailed, recursive;
        enum colour_when colour;
        char **operands;
        int n_operands;
};

/** Reads ARGV, whose first is the command's name, and settings as for a mount of its first operand; LETTERS: those of "lR", c (--color) and j (--json) that are taken,
 * and 2 if there are two operands, not one, or ? if there may be none. True: all is well. Otherwise RET_CODE is the exit code, and everything was said and
 * released. */
bool remote_call_parse(int argc, char **argv, const char *letters, struct remote_call *ret, int *ret_code);

/** As remote_open, of the first operand. What fails is said, and RET_CODE is the exit code. */
bool remote_call_open(struct remote_call *call, bool folder, bool whole, struct remote **ret,
                      struct catalog_entry *ret_top, int *ret_code);

/** Says what failed, unless a signal has come; the exit code. */
int remote_call_fail(const struct remote *remote, const char *what, int error);

/** The exit code for ERROR, 0 or a negative errno. */
int remote_exit_code(int error);

/** Closes REMOTE: CODE. If ERROR is -EPIPE nobody reads our output any more, and the process dies of SIGPIPE as other commands do. */
int remote_call_end(struct remote *remote, int error, int code);
