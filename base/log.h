/*
 * The log: lines to standard error or the system log; where standard error is the journal, with their priority as sd-daemon(3) has it. Library code returns errors; only the boundary (a FUSE
 * operation, an RPC handler, a thread's main loop, main) logs, once. Never a token, never a file's contents.
 * Thread-safe; a line is written whole. What nobody takes is lost, and said when somebody does again (log_sink.h): a log that hangs hangs nobody.
 */
#pragma once

#include "base/clock.h"
#include "base/util.h"

/* Both in the order of the options' choices. */

enum log_level {
        LOG_LEVEL_ERROR,
        LOG_LEVEL_WARNING,
        LOG_LEVEL_INFO,
        LOG_LEVEL_DEBUG,
};

enum log_format {
        LOG_FORMAT_TEXT,
        LOG_FORMAT_JSON, /* an object a line: time, level, program, pid, thread, message */
};

/** Sets the program's name, borrowed, and the highest level that is written; and looks where standard error leads. */
void log_setup(const char *program, enum log_level max_level);

/** From now on lines are written as FORMAT, also to the system log. Before threads start. */
void log_set_format(enum log_format format);

/** From now on each JSON object has a member NAME as well: what all lines of this process are about. Borrowed; before threads start. */
void log_set_context(const char *name, const char *value);

/** From now on lines go to the system log (facility daemon): for a daemon that has left its terminal. Before threads start. */
void log_to_syslog(void);

/** From now on WATCH gets every line of level warning or error as well: printable, borrowed, from any thread; it must not log. Before threads start. */
void log_watch(void (*watch)(enum log_level level, const char *line));

/** Writes one line. LEVEL above the limit is dropped. errno is kept. */
void log_write(enum log_level level, const char *format, ...) _printf_(2, 3);

#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/**
 * Replaces control characters by '?': what a peer says must not break the line or drive the terminal. In place.
 */
void log_make_printable(char *line);

/** If LINE is not UTF-8: replaces all bytes beyond ASCII by '?'. In place. */
void log_make_utf8(char *line);

/** State of one rate-limited place in the code: at most 10 lines in 10 seconds, then a count of what was left
 * out. */
struct log_limit {
        _Atomic int64_t window_start_ns;
        _Atomic unsigned count;
};

/** True if this place may log now. Says, once a window, how many lines were left out before. */
int log_limit_pass(struct log_limit *limit, const char *what);

/** Logs from a place that a peer or the kernel can trigger at will. */
#define log_limited(level, what, ...)                                                                        \
        do {                                                                                                 \
                static struct log_limit limit_;                                                              \
                if (log_limit_pass(&limit_, what))                                                           \
                        log_write(level, __VA_ARGS__);                                                       \
        } while (0)
