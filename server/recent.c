#include "server/recent.h"

#include <time.h>

#include "base/lock.h"

static struct mutex recent_lock = { PTHREAD_MUTEX_INITIALIZER };
static struct recent_line lines[RECENT_MAX] TSA_GUARDED(recent_lock); /* the oldest overwritten first */
static uint64_t n_lines TSA_GUARDED(recent_lock);                     /* that there ever were */
static uint64_t counts[LOG_LEVEL_WARNING + 1] TSA_GUARDED(recent_lock);

static void take_line(enum log_level level, const char *text)
{
        struct recent_line *line;

        mutex_lock(&recent_lock);
        line = &lines[n_lines++ % RECENT_MAX];
        line->at_sec = (int64_t)time(NULL);
        line->level = level;
        snprintf(line->text, sizeof(line->text), "%s", text);
        counts[level]++;
        mutex_unlock(&recent_lock);
}

void recent_begin(void)
{
        log_watch(take_line);
}

unsigned recent_list(struct recent_line ret[RECENT_MAX])
{
        unsigned n;

        mutex_lock(&recent_lock);
        n = (unsigned)MIN(n_lines, (uint64_t)RECENT_MAX);
        for (unsigned i = 0; i < n; i++)
                ret[i] = lines[(n_lines - 1 - i) % RECENT_MAX];
        mutex_unlock(&recent_lock);
        return n;
}

uint64_t recent_count(enum log_level level)
{
        uint64_t count;

        mutex_lock(&recent_lock);
        count = counts[level];
        mutex_unlock(&recent_lock);
        return count;
}
