#include "base/log.h"

#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>

#include "base/log_sink.h"
#include "base/path.h"

#define LIMIT_LINES     10
#define LIMIT_WINDOW_NS (10 * NSEC_PER_SEC)
#define LINE_BYTES      4096
#define JSON_BYTES                                                                                           \
        (5 * LINE_BYTES) /* the line and the context, of which each byte may become two, and the rest */

static const char *log_program = "fsyncfs";                         /* set before threads start */
static enum log_level log_max = LOG_LEVEL_INFO;                     /* set before threads start */
static void (*log_watcher)(enum log_level level, const char *line); /* set before threads start */
static bool log_syslog, log_journal;                                /* set before threads start */
static enum log_format log_format = LOG_FORMAT_TEXT;                /* set before threads start */
static const char *log_context_name, *log_context;                  /* set before threads start */
static atomic_uint log_lost;                                        /* lines since the last that was taken */

static const char *const level_names[] = { "error", "warning", "info", "debug" };

/* As systemd.exec(5) says: of a program further down, which has its standard error elsewhere, it is not true any more. */
static bool is_journal(int fd)
{
        const char *text = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;

        return text && sscanf(text, "%llu:%llu", &device, &inode) == 2 && fstat(fd, &st) == 0 &&
               st.st_dev == device && st.st_ino == inode;
}

void log_setup(const char *program, enum log_level max_level)
{
        log_program = program;
        log_max = max_level;
        log_journal = is_journal(STDERR_FILENO);
}

void log_set_format(enum log_format format)
{
        log_format = format;
}

void log_set_context(const char *name, const char *value)
{
        log_context_name = name;
        log_context = value;
}

void log_to_syslog(void)
{
        log_sink_to_syslog();
        log_syslog = true;
}

void log_watch(void (*watch)(enum log_level level, const char *line))
{
        log_watcher = watch;
}

void log_make_printable(char *line)
{
        for (char *p = line; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        *p = '?';
}

void log_make_utf8(char *line)
{
        if (path_is_utf8(line, strlen(line)))
                return;
        for (char *p = line; *p; p++)
                if (*p & 0x80)
                        *p = '?';
}

/* RFC 3339, in UTC. */
static void format_time(char ret[64])
{
        struct timespec now;
        struct tm tm;
        size_t n;

        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &tm);
        n = strftime(ret, 64, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(ret + n, 64 - n, ".%03ldZ", now.tv_nsec / NSEC_PER_MSEC);
}

/* LINE as an object in one line, for free(3). It becomes UTF-8, which JSON is. NULL: no memory. */
static char *make_json(enum log_level level, char *line)
{
        char at[64], thread[16] = "", *text;
        json_t *j;

        format_time(at);
        pthread_getname_np(pthread_self(), thread, sizeof(thread));
        log_make_utf8(thread);
        log_make_utf8(line);
        j = json_pack("{s:s, s:s, s:s, s:i, s:s, s:s}", "time", at, "level", level_names[level], "program",
                      log_program, "pid", (int)getpid(), "thread", thread, "message", line);
        if (j && log_context)
                json_object_set_new(j, log_context_name, json_string(log_context)); /* if it is UTF-8 */
        text = j ? json_dumps(j, JSON_COMPACT) : NULL;
        json_decref(j);
        return text;
}

/* What comes before a line's text. To the system log as RFC 3164 has it, with the time of this place. */
static int format_head(enum log_level level, bool json, char *ret, size_t size)
{
        static const char *const words[] = { "error: ", "warning: ", "", "debug: " };
        static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
        const char *word = json ? "" : words[level];
        char at[32];
        time_t now;
        struct tm tm;

        if (log_syslog) {
                now = time(NULL);
                strftime(at, sizeof(at), "%b %e %T", localtime_r(&now, &tm));
                return snprintf(ret, size, "<%d>%s %s[%d]: %s", LOG_DAEMON | priorities[level], at,
                                log_program, (int)getpid(), word);
        }
        if (log_journal)
                return snprintf(ret, size, "<%d>%s", priorities[level], word);
        return json ? 0 : snprintf(ret, size, "%s: %s", log_program, word);
}

/* False: it was lost. */
static bool put(enum log_level level, char *line)
{
        _cleanup_free_ char *json = log_format == LOG_FORMAT_JSON ? make_json(level, line) : NULL;
        char whole[JSON_BYTES];
        size_t n = (size_t)format_head(level, json, whole, sizeof(whole));

        n += (size_t)snprintf(whole + n, sizeof(whole) - n, "%s", json ?: line);
        n = MIN(n, sizeof(whole) - 1);
        if (!log_syslog)
                whole[n++] = '\n';
        return log_sink_put(whole, n);
}

static void say_lost(unsigned n)
{
        char line[LINE_BYTES];

        snprintf(line, sizeof(line), "%u lines before the last one are lost: nobody took them", n);
        if (!put(LOG_LEVEL_WARNING, line))
                atomic_fetch_add(&log_lost, n + 1);
}

void log_write(enum log_level level, const char *format, ...)
{
        int saved = errno;
        char line[LINE_BYTES];
        unsigned lost;
        va_list ap;

        if (level > log_max && (level > LOG_LEVEL_WARNING || !log_watcher))
                return;
        va_start(ap, format);
        vsnprintf(line, sizeof(line), format, ap);
        va_end(ap);
        log_make_printable(line);
        if (log_watcher && level <= LOG_LEVEL_WARNING)
                log_watcher(level, line);
        if (level <= log_max) {
                if (!put(level, line))
                        atomic_fetch_add(&log_lost, 1);
                else if ((lost = atomic_exchange(&log_lost, 0)) > 0)
                        say_lost(lost);
        }
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
