#include "fs/difference.h"

#include <string.h>

#include <jansson.h>

#include "base/io.h"
#include "fs/filesystem.h"
#include "fs/status.h"

/* Kept while the catalog's writer is ours, and sent afterwards: a client that reads slowly must not hold up a sync. */
#define DIFFERENCES_BYTES_MAX ((size_t)64 << 20)

static const char *const kinds[] = {
        [DIFFERENCE_ADDED] = "added", [DIFFERENCE_REMOVED] = "removed", [DIFFERENCE_MODIFIED] = "modified"
};

struct differences {
        struct buffer lines; /* owned */
        uint64_t counts[ARRAY_SIZE(kinds)], left_out;
        int64_t bytes; /* by which the tree would grow */
};

static json_t *entry_json(const struct catalog_entry *entry)
{
        char hash[HASH_TEXT_MAX];

        if (entry->ino == 0)
                return json_null();
        return json_pack("{s:s, s:I, s:i, s:I, s:s}", "kind", status_kind_name(entry->kind), "size",
                         (json_int_t)entry->size, "mode", (int)entry->mode, "mtime_ns",
                         (json_int_t)entry->mtime_ns, "hash", content_id_format(&entry->content, hash));
}

static int take_difference(const struct catalog_difference *difference, void *arg)
{
        struct differences *d = arg;
        _cleanup_free_ char *text = NULL;
        json_t *line;

        d->counts[difference->kind]++;
        d->bytes += (int64_t)(difference->after.kind == ENTRY_FILE ? difference->after.size : 0) -
                    (int64_t)(difference->before.kind == ENTRY_FILE ? difference->before.size : 0);
        if (d->lines.len > DIFFERENCES_BYTES_MAX) {
                d->left_out++;
                return 0;
        }
        line = json_pack("{s:s, s:o, s:o, s:o}", "change", kinds[difference->kind], "path",
                         status_path_json(difference->path), "before", entry_json(&difference->before),
                         "after", entry_json(&difference->after));
        text = line ? json_dumps(line, JSON_COMPACT) : NULL;
        json_decref(line);
        return text ? buffer_printf(&d->lines, "%s\n", text) : -ENOMEM;
}

static json_t *end_json(const struct differences *d, int error, const struct failure *failure)
{
        json_t *line = json_pack("{s:b, s:I, s:I, s:I, s:I, s:I}", "finished", true, "added",
                                 (json_int_t)d->counts[DIFFERENCE_ADDED], "removed",
                                 (json_int_t)d->counts[DIFFERENCE_REMOVED], "modified",
                                 (json_int_t)d->counts[DIFFERENCE_MODIFIED], "left_out",
                                 (json_int_t)d->left_out, "bytes", (json_int_t)d->bytes);

        if (line && error < 0) {
                json_object_set_new(line, "error", json_string(failure_text(failure, error)));
                json_object_set_new(line, "errno", json_integer(-error));
        }
        return line;
}

void difference_serve(struct filesystem *fs, int fd)
{
        struct differences d = { 0 };
        const struct intake_preview preview = { .each = take_difference, .arg = &d };
        struct failure failure = { 0 };
        _cleanup_free_ char *end = NULL;
        json_t *line;
        int r = fs->options.offline
                        ? failure_set(&failure, -EHOSTUNREACH, "mounted with 'offline': no master is asked")
                        : syncer_preview(fs->syncer, &preview, &failure);

        line = end_json(&d, r, &failure);
        end = line ? json_dumps(line, JSON_COMPACT) : NULL;
        json_decref(line);
        if (end && (r < 0 || d.lines.len == 0 || io_write_all(fd, d.lines.data, d.lines.len) == 0)) {
                (void)io_write_all(fd, end, strlen(end));
                (void)io_write_all(fd, "\n", 1);
        }
        buffer_release(&d.lines);
}
