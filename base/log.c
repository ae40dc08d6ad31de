#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <syslog.h>

#define LIMIT_LINES     10
#define LIMIT_WINDOW_NS (10 * NSEC_PER_SEC)

static const char *log_program = "fsyncfs";                         /* set before threads start */
static enum log_level log_max = LOG_LEVEL_INFO;                     /* set before threads start */
static void (*log_watcher)(enum log_level level, const char *line); /* set before threads start */
static int log_syslog;                                              /* set before threads start */

void log_setup(const char *program, enum log_level max_level)
{
        log_program = program;
        log_max = max_level;
}

void log_to_syslog(void)
{
        openlog(log_program, LOG_PID, LOG_DAEMON);
        log_syslog = 1;
}

void log_watch(void (*watch)(enum log_level level, const char *line))
{
        log_watcher = watch;
}

int log_level_parse(const char *text, enum log_level *ret_level)
{
        static const char *const names[] = { "error", "warning", "info", "debug" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (strcmp(text, names[i]) == 0) {
                        *ret_level = (enum log_level)i;
                        return 0;
                }
        return -EINVAL;
}

void log_make_printable(char *line)
{
        for (char *p = line; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        *p = '?';
}

void log_write(enum log_level level, const char *format, ...)
{
        static const char *const prefix[] = { "error: ", "warning: ", "", "debug: " };
        static const int priority[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
        int saved = errno;
        char line[4096];
        va_list ap;

        if (level > log_max && (level > LOG_LEVEL_WARNING || !log_watcher))
                return;
        va_start(ap, format);
        vsnprintf(line, sizeof(line), format, ap);
        va_end(ap);
        log_make_printable(line);
        if (log_watcher && level <= LOG_LEVEL_WARNING)
                log_watcher(level, line);
        if (level > log_max)
                ; /* not for the log */
        else if (log_syslog)
                syslog(priority[level], "%s%s", prefix[level], line);
        else
                fprintf(stderr, "%s: %s%s\n", log_program, prefix[level], line);
        errno = saved;
}

int log_limit_pass(struct log_limit *limit, const char *what)
{
        int64_t now = clock_monotonic_ns(), start = atomic_load(&limit->window_start_ns);

        if (start == 0 || now - start > LIMIT_WINDOW_NS) {
                if (atomic_compare_exchange_strong(&limit->window_start_ns, &start, now)) {
                        unsigned n = atomic_exchange(&limit->count, 0);
                        if (n > LIMIT_LINES)
                                log_warning("%s: %u more lines like the last ones left out", what,
                                            n - LIMIT_LINES);
                }
        }
        return atomic_fetch_add(&limit->count, 1) < LIMIT_LINES;
}
