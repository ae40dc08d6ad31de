#include "cli/top.h"

#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cli/command.h"

#define SLOWEST 10

/* Lines go here until the page is full. */
struct page {
        FILE *out;
        int columns, rows; /* rows 0: no end */
        int line;
};

/* Cut to the page's width, but not within a character. */
static void put(struct page *p, char *text)
{
        size_t len = strlen(text);

        if (p->rows > 0 && p->line >= p->rows)
                return;
        log_make_printable(text);
        if (p->columns > 0 && len > (size_t)p->columns) {
                len = (size_t)p->columns;
                while (len > 0 && (text[len] & 0xc0) == 0x80)
                        len--;
        }
        fprintf(p->out, "%.*s%s\n", (int)len, text, p->rows > 0 ? "\033[K\r" : "");
        p->line++;
}

static double number(const json_t *object, const char *key)
{
        return json_number_value(json_object_get(object, key));
}

static const char *string(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "?";
}

static void put_head(struct page *p, size_t n)
{
        char line[128], clock[16] = "";
        time_t now = time(NULL);
        struct tm tm;

        if (localtime_r(&now, &tm))
                strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
        snprintf(line, sizeof(line), "fsyncfs %s, %lu mount%s%s", clock, (unsigned long)n, n == 1 ? "" : "s",
                 p->rows > 0 ? ", q quits" : "");
        put(p, line);
        snprintf(line, sizeof(line), "%-24s %-7s %8s %5s %10s %10s %5s", "MOUNT", "STATE", "REQ/s", "HIT %",
                 "READ/s", "FETCH/s", "WAIT");
        put(p, line);
}

/* The end of a long path says more than its beginning. */
static const char *tail(const char *path, size_t most)
{
        size_t len = strlen(path);

        if (len <= most)
                return path;
        path += len - most;
        while ((*path & 0xc0) == 0x80)
                path++;
        return path;
}

static void put_sample(struct page *p, const struct top_sample *s)
{
        char line[512], read[32], fetch[32], hits[16] = "-";

        if (s->error[0] || !s->counters) {
                snprintf(line, sizeof(line), "%-24s %s", tail(s->target, 24), s->error[0] ? s->error : "...");
        } else {
                if (s->hits + s->misses > 0)
                        snprintf(hits, sizeof(hits), "%.0f", 100 * s->hits / (s->hits + s->misses));
                snprintf(line, sizeof(line), "%-24s %-7s %8.0f %5s %10s %10s %5.0f", tail(s->target, 24),
                         string(s->counters, "state"), s->requests, hits,
                         format_bytes((unsigned long long)s->replies, read),
                         format_bytes((unsigned long long)s->fetched_bytes, fetch),
                         number(s->counters, "waiting"));
        }
        put(p, line);
}

/* The slowest of all mounts, one after the other: N of them so far. */
static size_t add_slowest(const json_t *list, const json_t *slowest[SLOWEST], size_t n)
{
        const json_t *one;
        size_t i;

        json_array_foreach(list, i, one)
        {
                size_t at = n;

                while (at > 0 && number(slowest[at - 1], "milliseconds") < number(one, "milliseconds"))
                        at--;
                if (at == SLOWEST)
                        continue;
                memmove(&slowest[at + 1], &slowest[at],
                        (MIN(n, (size_t)SLOWEST - 1) - at) * sizeof(slowest[0]));
                slowest[at] = one;
                n = MIN(n + 1, (size_t)SLOWEST);
        }
        return n;
}

static void put_slowest(struct page *p, const json_t *slowest[SLOWEST], size_t n)
{
        char line[1024], empty[] = "", head[] = "slowest of the last minute";

        if (n == 0)
                return;
        put(p, empty);
        put(p, head);
        for (size_t i = 0; i < n; i++) {
                snprintf(line, sizeof(line), "%10.1f ms  %-10s %7.0f %-15.15s %.900s",
                         number(slowest[i], "milliseconds"), string(slowest[i], "why"),
                         number(slowest[i], "pid"), string(slowest[i], "command"),
                         string(slowest[i], "path"));
                put(p, line);
        }
}

void top_show(struct top *top, FILE *out, int columns, int rows)
{
        struct page page = { .out = out, .columns = columns, .rows = rows };
        struct top_sample *samples = calloc(top_count(top) + 1, sizeof(*samples));
        const json_t *slowest[SLOWEST];
        size_t n = 0;

        if (!samples)
                return;
        put_head(&page, top_count(top));
        for (size_t i = 0; i < top_count(top); i++) {
                top_get(top, i, &samples[i]);
                put_sample(&page, &samples[i]);
                n = add_slowest(json_object_get(samples[i].counters, "slowest"), slowest, n);
        }
        put_slowest(&page, slowest, n);
        for (size_t i = 0; i < top_count(top); i++)
                top_sample_release(&samples[i]);
        free(samples);
}
