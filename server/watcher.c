#include "server/watcher.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "base/hash.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "server/watcher_source.h"
#include "server/watcher_table.h"

#define READ_BYTES (16 * 1024)
#define SEEN_SLOTS 2048 /* more than READ_BYTES holds events of any kind */
/* Between two readings by the thread: what is written again and again gets one event, and a busy neighbour does not wake us for each of its. */
#define REST_MS 2

/* One (folder, name) that was told in this reading. */
struct seen {
        uint64_t key;
        const char *name; /* NULL: a free slot */
        size_t name_len;
        bool spider; /* that it is a spider's folder was told */
};

/* What a pass over the queue works with: owned by whoever has set `passing`. */
struct pass {
        char data[READ_BYTES] __attribute__((aligned(8)));
        struct seen seen[SEEN_SLOTS];
        struct buffer spots; /* of one event: a letter, spider, NUL, path, NUL, for each folder */
        uint64_t counter;    /* events, for drop_percent */
};

struct watcher {
        enum watcher_kind kind;
        struct watcher_options options; /* its root is not kept */
        bool local_only;                /* refuse what others may change without our kernel's knowing */
        struct watcher_source source;   /* fd -1: OFF */
        struct mutex lock;
        struct watcher_table table TSA_GUARDED(&lock);
        struct mutex pass_lock;
        struct condition pass_done;
        uint64_t begun TSA_GUARDED(&pass_lock), finished TSA_GUARDED(&pass_lock); /* passes */
        bool passing TSA_GUARDED(&pass_lock);
        struct pass *pass;
        int stop_fd; /* written to once: the thread ends */
        bool started;
        pthread_t thread;
};

/* ---- folders ---- */

/* The table's word: nobody wants to hear of KEY any more. Under `lock`. */
static void key_unused(void *arg, uint64_t key)
{
        struct watcher *watcher = arg;

        watcher->source.ops->unwatch(&watcher->source, key);
}

static int add_locked(struct watcher *watcher, const char *spider, const char *path, int fd)
        TSA_REQUIRES(watcher->lock)
{
        struct watcher_folder *folder;
        uint64_t key;
        int r = path_check(path, strlen(path));

        if (r < 0)
                return r;
        if (watcher->local_only && !watcher_source_tells_all(fd))
                return -EOPNOTSUPP;
        r = watcher->source.ops->watch(&watcher->source, fd, &key);
        if (r < 0)
                return r;
        r = watcher_table_place(&watcher->table, spider, path, &folder);
        if (r < 0) {
                if (!watcher_table_first(&watcher->table, key))
                        watcher->source.ops->unwatch(&watcher->source, key);
                return r;
        }
        watcher_table_set_key(&watcher->table, folder, key);
        return 0;
}

/* Not covered from now on: what is watched of it would be of no use, and watches are scarce. */
static void give_up_locked(struct watcher *watcher, const char *spider, int error) TSA_REQUIRES(watcher->lock)
{
        struct watcher_folder *top;

        /* Without memory for it there was nothing of this spider, and it is not covered either. */
        if (watcher_table_place(&watcher->table, spider, "", &top) < 0)
                return;
        watcher_table_drop_below(&watcher->table, top);
        watcher_table_clear_key(&watcher->table, top);
        top->error = error;
}

static void log_given_up(const struct watcher *watcher, const char *spider, int error)
{
        if (error == -ENOSPC && watcher->kind == WATCHER_INOTIFY)
                log_limited(LOG_LEVEL_WARNING, "watcher",
                            "'%s' has more folders than there are inotify watches: each request walks it "
                            "from now on; raise "
                            "/proc/sys/fs/inotify/max_user_watches",
                            spider);
        else
                log_limited(LOG_LEVEL_WARNING, "watcher",
                            "'%s' cannot be watched with %s (%s): each request walks it from now on", spider,
                            watcher->source.ops->name, strerror(-error));
}

int watcher_add(struct watcher *watcher, const char *spider, const char *path, int fd)
{
        struct watcher_folder *top;
        bool first;
        int r = path_check_name(spider, strlen(spider));

        if (r < 0)
                return r;
        if (watcher->kind == WATCHER_OFF)
                return -EOPNOTSUPP;
        mutex_lock(&watcher->lock);
        top = watcher_table_find(&watcher->table, spider, "");
        first = !top || top->error == 0;
        r = first ? add_locked(watcher, spider, path, fd) : top->error;
        if (r < 0 && first)
                give_up_locked(watcher, spider, r);
        mutex_unlock(&watcher->lock);
        if (r < 0 && first)
                log_given_up(watcher, spider, r);
        return r;
}

void watcher_forget(struct watcher *watcher, const char *spider, const char *path)
{
        struct watcher_folder *folder;

        mutex_lock(&watcher->lock);
        folder = watcher_table_find(&watcher->table, spider, path);
        if (folder)
                watcher_table_drop(&watcher->table, folder);
        mutex_unlock(&watcher->lock);
}

void watcher_remove(struct watcher *watcher, const char *spider)
{
        watcher_forget(watcher, spider, "");
}

bool watcher_covers(struct watcher *watcher, const char *spider)
{
        const struct watcher_folder *top;
        bool covers;

        mutex_lock(&watcher->lock);
        top = watcher_table_find(&watcher->table, spider, "");
        covers = top && top->has_key && watcher->table.root->has_key;
        mutex_unlock(&watcher->lock);
        return covers;
}

/* ---- telling ---- */

static bool seen_before(struct pass *pass, const struct watcher_event *event, bool spider)
{
        size_t i = (size_t)(hash_xxh3_64(event->name, event->name_len) +
                            event->key * UINT64_C(0x9e3779b97f4a7c15));

        for (;; i++) {
                struct seen *seen = &pass->seen[i % SEEN_SLOTS];
                if (!seen->name) {
                        *seen = (struct seen){ event->key, event->name, event->name_len, spider };
                        return false;
                }
                if (seen->key == event->key && seen->spider == spider && seen->name_len == event->name_len &&
                    memcmp(seen->name, event->name, event->name_len) == 0)
                        return true;
        }
}

enum { SPOT_CHANGED = 'c', SPOT_LOST = 'l' };

static int append_spot(struct buffer *spots, char kind, const struct watcher_folder *folder)
{
        int r = buffer_append(spots, &kind, 1);

        return r < 0 ? r : watcher_table_describe(folder, spots);
}

/* Something in the workspace root: of interest only if it is a spider's folder. */
static int append_spider(struct buffer *spots, const struct watcher_event *event)
{
        int r;

        if (event->kind != WATCHER_EVENT_NAME || !event->folder_entry)
                return 0;
        r = buffer_printf(spots, "%c%.*s", SPOT_LOST, (int)event->name_len, event->name);
        return r < 0 ? r : buffer_append(spots, "\0", 2);
}

static int gather_locked(struct watcher *watcher, const struct watcher_event *event)
        TSA_REQUIRES(watcher->lock)
{
        struct pass *pass = watcher->pass;
        struct watcher_folder *folder = watcher_table_first(&watcher->table, event->key);
        bool spider = folder && !folder->parent && event->folder_entry;
        char kind = event->kind == WATCHER_EVENT_UNMOUNT ? SPOT_LOST : SPOT_CHANGED;
        int r = 0;

        if (!folder || (event->kind == WATCHER_EVENT_NAME && seen_before(pass, event, spider)))
                return 0;
        if (event->kind == WATCHER_EVENT_GONE) {
                for (; folder; folder = watcher_table_first(&watcher->table, event->key))
                        watcher_table_drop(&watcher->table, folder);
                return 0;
        }
        for (; folder && r == 0; folder = watcher_table_next(folder))
                r = folder->parent ? append_spot(&pass->spots, kind, folder)
                                   : append_spider(&pass->spots, event);
        return r;
}

static void tell_changed(const struct watcher_options *to, const char *spider, const char *path,
                         const struct watcher_event *event)
{
        char text[PATH_BYTES_MAX + PATH_NAME_MAX + 2];
        const char *last;
        size_t len;

        if (event->kind == WATCHER_EVENT_NAME) {
                snprintf(text, sizeof(text), "%.*s", (int)event->name_len, event->name);
                to->changed(to->arg, spider, path, text);
        } else if (path[0] == '\0') {
                to->changed(to->arg, spider, "", NULL);
        } else {
                len = path_split(path, strlen(path), &last);
                snprintf(text, sizeof(text), "%.*s", (int)len, path);
                to->changed(to->arg, spider, text, last);
        }
}

static void tell(struct watcher *watcher, const struct watcher_event *event)
{
        struct buffer *spots = &watcher->pass->spots;
        int r;

        if (event->kind == WATCHER_EVENT_LOST) {
                watcher->options.lost(watcher->options.arg, NULL);
                return;
        }
        if (watcher->options.drop_percent > 0) {
                /* Spread out evenly enough, and the same each time. */
                uint64_t mixed = hash_xxh3_64(&watcher->pass->counter, sizeof(watcher->pass->counter));
                watcher->pass->counter++;
                if (mixed % 100 < watcher->options.drop_percent)
                        return;
        }
        buffer_truncate(spots, 0);
        mutex_lock(&watcher->lock);
        r = gather_locked(watcher, event);
        mutex_unlock(&watcher->lock);
        if (r < 0)
                watcher->options.lost(watcher->options.arg, NULL);
        for (const char *at = spots->data; r == 0 && at && at < spots->data + spots->len;) {
                const char *spider = at + 1, *path = spider + strlen(spider) + 1;
                if (*at == SPOT_LOST)
                        watcher->options.lost(watcher->options.arg, spider);
                else
                        tell_changed(&watcher->options, spider, path, event);
                at = path + strlen(path) + 1;
        }
}

/* Returns how much of FIONREAD's answer the LEN bytes were. */
static size_t tell_all(struct watcher *watcher, size_t len)
{
        const struct watcher_source_ops *ops = watcher->source.ops;
        struct watcher_event event;
        size_t offset = 0, events = 0;

        memset(watcher->pass->seen, 0, sizeof(watcher->pass->seen));
        for (; ops->next(watcher->pass->data, len, &offset, &event); events++)
                if (event.kind != WATCHER_EVENT_NONE)
                        tell(watcher, &event);
        return ops->event_counts > 0 ? events * ops->event_counts : len;
}

/* Tells what is queued now; not what comes meanwhile, or a busy writer would hold us for ever. */
static void run_pass(struct watcher *watcher)
{
        int queued = 0;
        size_t left;

        if (ioctl(watcher->source.fd, FIONREAD, &queued) < 0)
                queued = INT_MAX;
        for (left = (size_t)MAX(queued, 0); left > 0;) {
                ssize_t n = read(watcher->source.fd, watcher->pass->data, READ_BYTES);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno != EAGAIN) {
                        log_limited(LOG_LEVEL_ERROR, "watcher",
                                    "reading from %s failed (%s): everything is walked again",
                                    watcher->source.ops->name, strerror(errno));
                        watcher->options.lost(watcher->options.arg, NULL);
                }
                if (n <= 0)
                        return;
                size_t done = tell_all(watcher, (size_t)n);
                left -= MIN(left, done);
        }
}

void watcher_drain(struct watcher *watcher)
{
        uint64_t wanted;

        if (watcher->kind == WATCHER_OFF)
                return;
        mutex_lock(&watcher->pass_lock);
        /* One under way may have read past what we are to see told. */
        wanted = watcher->begun + 1;
        while (watcher->finished < wanted) {
                if (watcher->passing) {
                        condition_wait(&watcher->pass_done, &watcher->pass_lock);
                        continue;
                }
                watcher->passing = true;
                watcher->begun++;
                mutex_unlock(&watcher->pass_lock);
                run_pass(watcher);
                mutex_lock(&watcher->pass_lock);
                watcher->passing = false;
                watcher->finished = watcher->begun;
                condition_broadcast(&watcher->pass_done);
        }
        mutex_unlock(&watcher->pass_lock);
}

/* ---- life ---- */

static void *watcher_main(void *arg)
{
        struct watcher *watcher = arg;
        struct pollfd fds[] = {
                { .fd = watcher->stop_fd, .events = POLLIN },
                { .fd = watcher->source.fd, .events = POLLIN },
        };

        thread_name("watcher");
        for (;;) {
                if (poll(fds, 2, -1) < 0)
                        continue;
                if (fds[0].revents)
                        break;
                watcher_drain(watcher);
                if (poll(fds, 1, REST_MS) > 0)
                        break;
        }
        return NULL;
}

static int use_source(struct watcher *watcher, enum watcher_kind kind, int root_fd)
{
        const struct watcher_source_ops *ops =
                kind == WATCHER_FANOTIFY ? &watcher_fanotify : &watcher_inotify;
        uint64_t key;
        int r = watcher_source_open(ops, root_fd, &watcher->source, &key);

        if (r < 0)
                return r;
        watcher->kind = kind;
        watcher_table_set_key(&watcher->table, watcher->table.root, key);
        return 0;
}

static int choose(struct watcher *watcher, const struct watcher_options *options, int root_fd)
{
        int fanotify, inotify;

        if (options->kind == WATCHER_OFF)
                return 0;
        if (options->kind != WATCHER_AUTO)
                return use_source(watcher, options->kind, root_fd);
        watcher->local_only = true;
        if (!watcher_source_tells_all(root_fd)) {
                log_warning("'%s' is on a file system that may change unseen: nothing is watched, each "
                            "request walks",
                            options->root);
                return 0;
        }
        fanotify = use_source(watcher, WATCHER_FANOTIFY, root_fd);
        if (fanotify == 0)
                return 0;
        inotify = use_source(watcher, WATCHER_INOTIFY, root_fd);
        if (inotify == 0)
                log_info("no fanotify (%s): inotify has to do", strerror(-fanotify));
        else
                log_warning("neither fanotify (%s) nor inotify (%s): nothing is watched, each request walks",
                            strerror(-fanotify), strerror(-inotify));
        return 0;
}

static int start(struct watcher *watcher)
{
        int r;

        if (watcher->kind == WATCHER_OFF)
                return 0;
        watcher->pass = calloc(1, sizeof(*watcher->pass));
        if (!watcher->pass)
                return -ENOMEM;
        watcher->stop_fd = eventfd(0, EFD_CLOEXEC);
        if (watcher->stop_fd < 0)
                return -errno;
        r = pthread_create(&watcher->thread, NULL, watcher_main, watcher);
        watcher->started = r == 0;
        return -r;
}

int watcher_new(const struct watcher_options *options, struct watcher **ret)
{
        _cleanup_close_ int root_fd = open(options->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct watcher *watcher;
        int r;

        if (root_fd < 0)
                return -errno;
        watcher = calloc(1, sizeof(*watcher));
        if (!watcher)
                return -ENOMEM;
        watcher->kind = WATCHER_OFF;
        watcher->options = *options;
        watcher->options.root = NULL;
        watcher->source.fd = watcher->stop_fd = -1;
        mutex_init(&watcher->lock);
        mutex_init(&watcher->pass_lock);
        condition_init(&watcher->pass_done);
        r = watcher_table_init(&watcher->table);
        watcher->table.key_unused = key_unused;
        watcher->table.arg = watcher;
        if (r == 0)
                r = choose(watcher, options, root_fd);
        if (r == 0)
                r = start(watcher);
        if (r < 0) {
                watcher_free(watcher);
                return r;
        }
        *ret = watcher;
        return 0;
}

void watcher_free(struct watcher *watcher)
{
        if (!watcher)
                return;
        if (watcher->started) {
                uint64_t one = 1;
                /* Cannot fail: the counter is 0. */
                (void)!write(watcher->stop_fd, &one, sizeof(one));
                pthread_join(watcher->thread, NULL);
        }
        if (watcher->stop_fd >= 0)
                close(watcher->stop_fd);
        if (watcher->source.fd >= 0)
                close(watcher->source.fd);
        watcher_table_release(&watcher->table);
        if (watcher->pass)
                buffer_release(&watcher->pass->spots);
        free(watcher->pass);
        condition_release(&watcher->pass_done);
        mutex_release(&watcher->pass_lock);
        mutex_release(&watcher->lock);
        free(watcher);
}

enum watcher_kind watcher_get_kind(const struct watcher *watcher)
{
        return watcher->kind;
}
