#include "fs/prefetching.h"

#include <poll.h>
#include <string.h>

#include <jansson.h>

#include "base/io.h"
#include "fs/filesystem.h"
#include "sync/prefetch.h"

#define LINE_MS 200

static json_t *view_json(const struct prefetch_view *v)
{
        json_t *line =
                json_pack("{s:I, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:f, s:b}", "total_files",
                          (json_int_t)v->total_files, "total_bytes", (json_int_t)v->total_bytes, "counted",
                          v->counted, "files", (json_int_t)v->files, "bytes", (json_int_t)v->bytes,
                          "fetched_files", (json_int_t)v->fetched_files, "fetched_bytes",
                          (json_int_t)v->fetched_bytes, "failed", (json_int_t)v->failed, "elapsed_seconds",
                          (double)v->elapsed_ns / (double)NSEC_PER_SEC, "finished", v->finished);

        if (line && v->finished && v->error < 0) {
                json_object_set_new(line, "error", json_string(strerror(-v->error)));
                json_object_set_new(line, "errno", json_integer(-v->error));
        }
        return line;
}

static int send_line(int fd, json_t *line)
{
        _cleanup_free_ char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
        int r = text ? io_write_all(fd, text, strlen(text)) : -ENOMEM;

        json_decref(line);
        return r < 0 ? r : io_write_all(fd, "\n", 1);
}

/* Anything to read from the client is its end: it has nothing more to say. */
static bool is_over(int fd, int stop_fd)
{
        struct pollfd fds[] = { { .fd = fd, .events = POLLIN }, { .fd = stop_fd, .events = POLLIN } };

        return poll(fds, ARRAY_SIZE(fds), LINE_MS) != 0;
}

static int begin(struct filesystem *fs, uint64_t ino, struct prefetch **ret)
{
        const struct prefetch_options options = { .catalog = fs->catalog,
                                                  .store = fs->store,
                                                  .fetch = fs->fetch,
                                                  .rate_bytes = fs->options.prefetch_rate };
        struct catalog_version version;

        catalog_get_version(fs->catalog, &version);
        return version.loading ? -EAGAIN : prefetch_new(&options, ino, ret);
}

void prefetching_serve(struct filesystem *fs, uint64_t ino, int fd, int stop_fd)
{
        struct prefetch *prefetch;
        struct prefetch_view view;
        int r = begin(fs, ino, &prefetch);

        if (r < 0) {
                const char *why = r == -EAGAIN
                                          ? "not all names of the tree are here yet: try again in a moment"
                                          : strerror(-r);
                (void)send_line(fd, json_pack("{s:s, s:i}", "error", why, "errno", -r));
                return;
        }
        do {
                prefetch_get(prefetch, &view);
                r = send_line(fd, view_json(&view));
        } while (r == 0 && !view.finished && !is_over(fd, stop_fd));
        prefetch_free(prefetch);
}
