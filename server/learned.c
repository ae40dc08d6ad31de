#include "server/learned.h"

#include <fcntl.h>
#include <string.h>

#include <uthash.h>

#include "base/io.h"
#include "base/lock.h"
#include "base/log.h"
#include "server/metrics.h"

#define FILE_NAME  "learned"
#define REST_NS    NSEC_PER_SEC /* between two merges into one list */
#define RECENT_MAX 1024         /* lists merged within that time */

/* A list that was merged into a moment ago. */
struct recent {
        int64_t merged_ns;
        UT_hash_handle hh;
        char spider[];
};

struct learned {
        struct versions *versions; /* borrowed */
        struct mutex
                lock; /* held while a list is read, merged and written: each merge builds on the one before */
        struct recent *recent TSA_GUARDED(lock);
};

int learned_new(struct versions *versions, struct learned **ret)
{
        struct learned *learned = calloc(1, sizeof(*learned));

        if (!learned)
                return -ENOMEM;
        learned->versions = versions;
        mutex_init(&learned->lock);
        *ret = learned;
        return 0;
}

static void forget_locked(struct learned *learned, int64_t before_ns) TSA_REQUIRES(learned->lock)
{
        struct recent *recent, *next;

        HASH_ITER (hh, learned->recent, recent, next) {
                if (recent->merged_ns > before_ns)
                        continue;
                HASH_DEL(learned->recent, recent);
                free(recent);
        }
}

void learned_free(struct learned *learned)
{
        if (!learned)
                return;
        mutex_lock(&learned->lock);
        forget_locked(learned, INT64_MAX);
        mutex_unlock(&learned->lock);
        mutex_release(&learned->lock);
        free(learned);
}

/* A merge into SPIDER's list is about to be done. -EBUSY: too soon after the last one. */
static int note_merge_locked(struct learned *learned, const char *spider) TSA_REQUIRES(learned->lock)
{
        int64_t now = clock_monotonic_ns();
        struct recent *recent;

        forget_locked(learned, now - REST_NS);
        HASH_FIND_STR(learned->recent, spider, recent);
        if (recent || HASH_COUNT(learned->recent) >= RECENT_MAX)
                return -EBUSY;
        recent = calloc(1, sizeof(*recent) + strlen(spider) + 1);
        if (!recent)
                return -ENOMEM;
        recent->merged_ns = now;
        strcpy(recent->spider, spider);
        HASH_ADD_STR(learned->recent, spider, recent);
        if (!recent->hh.tbl) {
                free(recent);
                return -ENOMEM;
        }
        return 0;
}

/* ---- the file ---- */

static int read_list(const char *spider, const char *file, struct learned_list *ret)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        _cleanup_close_ int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        int r;

        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        r = io_read_to_end(fd, LEARNED_LIST_TEXT_MAX, &text);
        if (r >= 0)
                r = learned_list_read(ret, text.data ? text.data : "", text.len);
        if (r != -EBADMSG && r != -EFBIG)
                return r;
        log_warning("%s: what was learned, in '%s', is damaged: it is begun anew", spider, file);
        return 0;
}

/* No fsync: what a power cut leaves is the old list, the new one, or one that read_list knows to be damaged. */
static int write_list(const char *file, const struct learned_list *list)
{
        _cleanup_buffer_ struct buffer text = { 0 }, fresh = { 0 };
        _cleanup_close_ int fd = -1;
        int r = learned_list_write(list, &text);

        if (r >= 0)
                r = buffer_printf(&fresh, "%s.new", file);
        if (r < 0)
                return r;
        fd = open(fresh.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        r = io_write_all(fd, text.data, text.len);
        if (r >= 0 && rename(fresh.data, file) < 0)
                r = -errno;
        if (r < 0)
                unlink(fresh.data);
        return r;
}

static int find_file(struct learned *learned, const char *spider, struct buffer *ret)
{
        int r = versions_place(learned->versions, spider, ret);

        return r < 0 ? r : buffer_printf(ret, "/" FILE_NAME);
}

int learned_merge(struct learned *learned, const char *spider, const struct learned_report *report)
{
        _cleanup_(learned_list_release) struct learned_list list = { 0 };
        _cleanup_buffer_ struct buffer file = { 0 };
        int r = find_file(learned, spider, &file);

        if (r < 0)
                return r;
        mutex_lock(&learned->lock);
        r = note_merge_locked(learned, spider);
        if (r >= 0)
                r = read_list(spider, file.data, &list);
        if (r >= 0)
                r = learned_list_merge(&list, report);
        if (r >= 0)
                r = write_list(file.data, &list);
        mutex_unlock(&learned->lock);
        if (r >= 0)
                metrics_add(METRIC_REPORTS, 1);
        return r;
}

int learned_get(struct learned *learned, const char *spider, struct learned_list *ret)
{
        _cleanup_buffer_ struct buffer file = { 0 };
        int r = find_file(learned, spider, &file);

        if (r == -ENOENT)
                return 0;
        return r < 0 ? r : read_list(spider, file.data, ret);
}
