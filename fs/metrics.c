#include "fs/metrics.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/lock.h"
#include "base/log.h"
#include "fs/filesystem.h"
#include "fs/status.h"

#define PERIOD_NS (15 * NSEC_PER_SEC)

struct metrics {
        struct filesystem *fs; /* borrowed */
        const char *file;      /* borrowed; absolute */
        char *draft;           /* owned: beside it, under a name that the collector does not read */
        struct mutex lock;
        struct condition wake; /* stopping */
        bool stopping TSA_GUARDED(lock);
        pthread_t thread;
};

/* What `fsyncfs status --json` calls KEY. */
static const struct row {
        const char *key, *name, *type, *help;
} rows[] = {
        { "online", "fsyncfs_mount_online", "gauge", "1 if a master is there" },
        { "watching", "fsyncfs_mount_watching", "gauge", "1 if the master's pushes are being listened to" },
        { "entries", "fsyncfs_mount_entries", "gauge", "Entries of the tree" },
        { "bytes", "fsyncfs_mount_tree_bytes", "gauge", "Bytes of all its files" },
        { "unknown", "fsyncfs_mount_unknown_entries", "gauge", "Entries that the master could not read" },
        { "last_sync", "fsyncfs_mount_last_sync_timestamp_seconds", "gauge",
          "Time of day of the last word that the tree is up to date" },
        { "hits", "fsyncfs_mount_hits_total", "counter", "Reads whose content was in the store" },
        { "misses", "fsyncfs_mount_misses_total", "counter", "Reads that had to wait for a content" },
        { "failed_reads", "fsyncfs_mount_failed_reads_total", "counter",
          "Waits for a content that ended with an error" },
        { "fetched_files", "fsyncfs_mount_fetched_files_total", "counter", "Contents fetched" },
        { "fetched_bytes", "fsyncfs_mount_fetched_bytes_total", "counter", "Bytes fetched" },
        { "adopted_bytes", "fsyncfs_mount_adopted_bytes_total", "counter",
          "Bytes taken over from what a file held before" },
        { "prefetched_files", "fsyncfs_mount_prefetched_files_total", "counter",
          "Files brought before they were read" },
        { "syncs", "fsyncfs_mount_syncs_total", "counter", "Syncs that succeeded" },
        { "pushes", "fsyncfs_mount_pushes_total", "counter", "Versions that the master pushed" },
        { "full_scans", "fsyncfs_mount_full_scans_total", "counter",
          "Syncs that had to list all once more, as the digests differed" },
        { "delta_entries", "fsyncfs_mount_delta_entries_total", "counter", "Entries changed by syncs" },
        { "store_bytes", "fsyncfs_mount_store_bytes", "gauge",
          "Bytes in the cache, of all mounts that share it" },
        { "quota_bytes", "fsyncfs_mount_quota_bytes", "gauge", "What it may take; 0: no limit" },
        { "rss_bytes", "fsyncfs_mount_resident_bytes", "gauge", "Memory of the mount's daemon" },
        { "restarts", "fsyncfs_mount_restarts_total", "counter", "Times that a dead daemon was replaced" },
};

/* A label's value: what Prometheus wants escaped is. */
static int put_label(struct buffer *out, const char *name, const char *value)
{
        int r = buffer_printf(out, "%s=\"", name);

        for (; r >= 0 && *value; value++)
                if (*value == '\n')
                        r = buffer_printf(out, "\\n");
                else
                        r = buffer_printf(out, "%s%c", *value == '"' || *value == '\\' ? "\\" : "", *value);
        return r < 0 ? r : buffer_printf(out, "\"");
}

static long long value_of(const json_t *status, const char *key)
{
        const json_t *value = json_object_get(status, key);

        return json_is_boolean(value) ? json_is_true(value) : (long long)json_integer_value(value);
}

static int format(const json_t *status, struct buffer *out)
{
        _cleanup_buffer_ struct buffer labels = { 0 };
        int r = put_label(&labels, "mount", json_string_value(json_object_get(status, "target")) ?: "");

        if (r >= 0)
                r = buffer_printf(&labels, ",");
        if (r >= 0)
                r = put_label(&labels, "source", json_string_value(json_object_get(status, "source")) ?: "");
        if (r >= 0)
                r = buffer_printf(
                        out,
                        "# HELP fsyncfs_mount_info What runs here\n# TYPE fsyncfs_mount_info gauge\n"
                        "fsyncfs_mount_info{%s,version=\"" FSYNCFS_VERSION "\"} 1\n",
                        labels.data);
        for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(rows); i++)
                r = buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s{%s} %lld\n", rows[i].name,
                                  rows[i].help, rows[i].name, rows[i].type, rows[i].name, labels.data,
                                  value_of(status, rows[i].key));
        return r;
}

/* ---- the file ---- */

static int publish(const struct metrics *m, const struct buffer *text)
{
        _cleanup_close_ int fd = open(m->draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
        int r;

        if (fd < 0)
                return -errno;
        r = io_write_all(fd, text->data, text->len);
        if (r < 0)
                return r;
        return rename(m->draft, m->file) < 0 ? -errno : 0;
}

static void write_once(const struct metrics *m)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        json_t *status = status_brief_json(m->fs);
        int r = status ? format(status, &text) : -ENOMEM;

        json_decref(status);
        if (r >= 0)
                r = publish(m, &text);
        if (r < 0)
                log_limited(LOG_LEVEL_WARNING, "metrics", "cannot write the metrics file '%s': %s", m->file,
                            strerror(-r));
}

static void *metrics_main(void *arg)
{
        struct metrics *m = arg;

        thread_name("metrics");
        mutex_lock(&m->lock);
        while (!m->stopping) {
                int64_t next_ns = clock_monotonic_ns() + PERIOD_NS;

                mutex_unlock(&m->lock);
                write_once(m);
                mutex_lock(&m->lock);
                while (!m->stopping && condition_wait_until(&m->wake, &m->lock, next_ns) == 0)
                        continue;
        }
        mutex_unlock(&m->lock);
        return NULL;
}

/* ---- beginning and end ---- */

/* Beside FILE: the caller's; NULL: no memory. */
static char *draft_of(const char *file)
{
        char *draft;

        return asprintf(&draft, "%s.draft", file) < 0 ? NULL : draft;
}

void metrics_remove(const char *file)
{
        _cleanup_free_ char *draft = draft_of(file);

        if (draft)
                unlink(draft); /* of a disk that was full */
        if (unlink(file) < 0 && errno != ENOENT)
                log_warning("cannot remove the metrics file '%s': %s", file, strerror(errno));
}

static void release(struct metrics *m)
{
        condition_release(&m->wake);
        mutex_release(&m->lock);
        free(m->draft);
        free(m);
}

int metrics_new(struct filesystem *fs, const char *file, struct metrics **ret)
{
        struct metrics *m = calloc(1, sizeof(*m));
        int r;

        if (!m)
                return -ENOMEM;
        m->fs = fs;
        m->file = file;
        mutex_init(&m->lock);
        condition_init(&m->wake);
        m->draft = draft_of(file);
        r = m->draft ? -pthread_create(&m->thread, NULL, metrics_main, m) : -ENOMEM;
        if (r < 0) {
                release(m);
                return r;
        }
        *ret = m;
        return 0;
}

void metrics_free(struct metrics *metrics)
{
        if (!metrics)
                return;
        mutex_lock(&metrics->lock);
        metrics->stopping = true;
        condition_broadcast(&metrics->wake);
        mutex_unlock(&metrics->lock);
        pthread_join(metrics->thread, NULL);
        metrics_remove(metrics->file);
        release(metrics);
}
