#include "cli/remote.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/terminal_line.h"
#include "cache/place.h"
#include "cli/remote_private.h"

#define FETCH_THREADS 16
#define SCRATCH_QUOTA                                                                                        \
        ((uint64_t)256 << 20) /* of contents in the temporary folder: they are written out at once */
#define CHILDREN_AT_ONCE 64
#define ENDING_MS        3000 /* after a signal, for what waits for somebody else, as a write may */

/* ---- the temporary folder ---- */

static int make_scratch(struct remote *r, struct failure *failure)
{
        const char *base = getenv("TMPDIR");

        if (!base || base[0] != '/')
                base = "/var/tmp"; /* may become large: /tmp is often memory */
        if (asprintf(&r->scratch, "%s/fsyncfs-XXXXXX", base) < 0) {
                r->scratch = NULL;
                return -ENOMEM;
        }
        if (!mkdtemp(r->scratch)) {
                int error = -errno;
                free(TAKE_PTR(r->scratch));
                return failure_set(failure, -EINVAL,
                                   "cannot make a temporary folder in '%s': %s; choose another with TMPDIR",
                                   base, strerror(-error));
        }
        return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)remove(path);
        return 0;
}

static void remove_scratch(const struct remote *r)
{
        if (r->scratch)
                nftw(r->scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- bringing it up ---- */

/* The cache that was named must do; the default one is used if it can be. */
static int open_store(struct remote *r, bool named, struct failure *failure)
{
        const struct store_limits scratch_limits = { .quota = { .bytes = SCRATCH_QUOTA } };
        const char *dir = r->options.cache_dir, *kind;
        bool here = access(dir, F_OK) == 0;
        int error = named || here ? place_check(dir, &kind) : -ENOENT;

        if (error == -EREMOTE && r->options.cache_anywhere)
                error = 0;
        if (error == 0)
                error = store_open(dir, &r->store);
        if (error == 0)
                return store_limit(r->store, &r->options.limits);
        if (named)
                return failure_set(failure, -EINVAL, "cannot use cache folder '%s': %s", dir,
                                   strerror(-error));
        error = store_open(r->scratch, &r->store);
        return error < 0 ? error : store_limit(r->store, &scratch_limits);
}

static int open_session(struct remote *r, struct failure *failure)
{
        const struct session_options options = {
                .source = &r->source,
                .token_file = r->options.token_file,
                .node_name = r->options.node_name,
                .tls = r->options.tls,
                .tls_files = { .cert = r->options.cert, .key = r->options.key, .ca = r->options.ca },
                .hash = r->options.hash,
                .timeout_ms = (int)r->options.timeout_sec * 1000,
        };

        rpc_init();
        r->rpc = true;
        return session_new(&options, &r->session, failure);
}

/* No kernel knows anything that it could forget. */
static void tell_nobody(struct catalog_changes *changes, void *arg)
{
}

static int refresh_stale(void *arg)
{
        struct failure failure = { 0 };

        return syncer_run(((struct remote *)arg)->syncer, false, &failure);
}

static int start_engine(struct remote *r)
{
        const struct syncer_options syncer = {
                .session = r->session, .catalog = r->catalog, .store = r->store, .on_changes = tell_nobody
        };
        const struct fetch_options fetch = {
                .session = r->session,
                .catalog = r->catalog,
                .store = r->store,
                .timeout_ms = (int)r->options.timeout_sec * 1000,
                .threads = FETCH_THREADS,
                .held_max = io_raise_open_files() / 4,
                .refresh = refresh_stale,
                .refresh_arg = r,
        };
        int error = syncer_new(&syncer, &r->syncer);

        return error < 0 ? error : fetch_new(&fetch, &r->fetch);
}

/* ---- signals ---- */

static void die_of(int number)
{
        sigset_t set;

        signal(number, SIG_DFL);
        sigemptyset(&set);
        sigaddset(&set, number);
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        raise(number);
}

/* Everything that waits ends: the thread that uses the remote then comes to its end by itself, or is in a write that nobody takes. */
static void *watch_signals(void *arg)
{
        struct remote *r = arg;
        struct pollfd fds[] = { { .fd = r->signal_fd, .events = POLLIN },
                                { .fd = r->stop_fd, .events = POLLIN } };
        struct signalfd_siginfo info;

        thread_name("signals");
        while (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno == EINTR)
                continue;
        if (!fds[0].revents || read(r->signal_fd, &info, sizeof(info)) != sizeof(info))
                return NULL;
        atomic_store(&r->signal, (int)info.ssi_signo);
        session_interrupt(r->session);
        store_interrupt(r->store);
        syncer_stop(r->syncer);
        fetch_stop(r->fetch);
        if (poll(&fds[1], 1, ENDING_MS) == 0) {
                remove_scratch(r);
                die_of((int)info.ssi_signo);
        }
        return NULL;
}

static void get_signals(sigset_t *ret)
{
        sigemptyset(ret);
        sigaddset(ret, SIGINT);
        sigaddset(ret, SIGTERM);
        sigaddset(ret, SIGHUP);
}

static void block_signals(void)
{
        sigset_t set;

        get_signals(&set);
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        signal(SIGPIPE, SIG_IGN); /* a write says it, and then there is a folder to remove */
}

static int start_watching(struct remote *r)
{
        sigset_t set;
        int error;

        get_signals(&set);
        r->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
        r->stop_fd = eventfd(0, EFD_CLOEXEC);
        if (r->signal_fd < 0 || r->stop_fd < 0)
                return -errno;
        error = -pthread_create(&r->watcher, NULL, watch_signals, r);
        r->watching = error == 0;
        return error;
}

static void stop_watching(struct remote *r)
{
        uint64_t one = 1;

        if (r->watching) {
                io_write_all(r->stop_fd, &one, sizeof(one));
                pthread_join(r->watcher, NULL);
        }
        cleanup_close(&r->signal_fd);
        cleanup_close(&r->stop_fd);
}

bool remote_is_interrupted(const struct remote *remote)
{
        return atomic_load(&remote->signal) != 0;
}

/* ---- the tree ---- */

static void show_progress(const struct progress_view *view, void *arg)
{
        char line[160];

        progress_format(view, line, sizeof(line));
        terminal_line_show("%s: %s", ((struct remote *)arg)->source.text, line);
}

static int first_version(struct remote *r, bool whole, struct failure *failure)
{
        bool terminal = whole && isatty(STDERR_FILENO);
        const struct syncer_wait wait = { .lazy_ms = whole ? -1 : 0,
                                          .tick = terminal ? show_progress : NULL,
                                          .arg = r };
        int error = syncer_first(r->syncer, &wait, failure);

        if (terminal)
                terminal_line_clear();
        return error;
}

static int bring_up(struct remote *r, const struct remote_options *options, struct failure *failure)
{
        int error = make_scratch(r, failure);

        if (error == 0)
                error = open_store(r, options->cache_named, failure);
        if (error == 0)
                error = catalog_open(r->scratch, r->source.text, &r->catalog);
        if (error == 0)
                error = open_session(r, failure);
        if (error == 0)
                error = start_engine(r);
        if (error == 0)
                error = start_watching(r);
        return error == 0 ? first_version(r, options->whole, failure) : error;
}

static struct remote *take_down(struct remote *r)
{
        if (r->session)
                session_interrupt(r->session);
        if (r->store)
                store_interrupt(r->store);
        stop_watching(r);
        if (r->syncer)
                syncer_stop(r->syncer);
        fetch_free(r->fetch);
        syncer_free(r->syncer);
        session_free(r->session);
        catalog_free(r->catalog);
        store_free(r->store);
        if (r->rpc)
                rpc_shutdown();
        remove_scratch(r);
        free(r->scratch);
        return r;
}

int remote_close(struct remote *remote, int code)
{
        int number;

        if (!remote)
                return code;
        number = atomic_load(&take_down(remote)->signal);
        source_release(&remote->source);
        mount_options_release(&remote->options);
        condition_release(&remote->came);
        mutex_release(&remote->lock);
        free(remote);
        if (number)
                die_of(number);
        return code;
}

static int remote_new(const struct source *source, const struct remote_options *options, struct remote **ret,
                      struct failure *failure)
{
        struct remote *r = calloc(1, sizeof(*r));

        if (!r)
                return -ENOMEM;
        r->signal_fd = r->stop_fd = -1;
        mutex_init(&r->lock);
        condition_init(&r->came);
        r->options = *options->mount;
        *options->mount = (struct mount_options){ 0 };
        *ret = r;
        return source_parse(source->text, &r->source, failure);
}

/* Has R, which is not up yet, list the folder that PATH lies in, and says which of its entries that is. */
static int look_from_parent(struct remote *r, char **ret_name)
{
        const char *name;
        size_t parent;
        char *copy;

        if (!r->source.path[0])
                return 0;
        parent = path_split(r->source.path, strlen(r->source.path), &name);
        *ret_name = strdup(name);
        copy = strndup(r->source.path, parent);
        if (!*ret_name || !copy) {
                free(copy);
                return -ENOMEM;
        }
        free(r->source.path);
        r->source.path = copy;
        return 0;
}

static int find_child(struct remote *r, const char *name, struct catalog_entry *ret, struct failure *failure);

/* One try. */
static int open_once(const struct remote_options *options, const struct source *source, struct remote **ret,
                     struct catalog_entry *ret_top, struct failure *failure)
{
        _cleanup_free_ char *name = NULL;
        int error = remote_new(source, options, ret, failure);

        if (error == 0 && !options->folder)
                error = look_from_parent(*ret, &name);
        if (error == 0)
                error = bring_up(*ret, options, failure);
        if (error == 0)
                error = name ? find_child(*ret, name, ret_top, failure)
                             : catalog_get((*ret)->catalog, CATALOG_ROOT_INO, ret_top);
        return error > 0 ? -ENOENT : error;
}

int remote_open(const struct remote_options *options, struct remote **ret, struct catalog_entry *ret_top,
                struct failure *failure)
{
        _cleanup_(source_release) struct source source = { 0 };
        struct remote_options again = *options;
        struct remote *remote = NULL;
        int error = source_parse(options->source, &source, failure);

        if (error < 0)
                return error;
        block_signals();
        error = open_once(options, &source, &remote, ret_top, failure);
        /* It may be a file: the master lists folders alone. */
        if (error == -ENOENT && options->folder && source.path[0]) {
                again.folder = false;
                again.mount = &(struct mount_options){ 0 };
                *again.mount = remote->options;
                remote->options = (struct mount_options){ 0 };
                (void)remote_close(remote, 0);
                remote = NULL;
                *failure = (struct failure){ 0 };
                error = open_once(&again, &source, &remote, ret_top, failure);
        }
        if (error < 0)
                (void)remote_close(remote, 1);
        else
                *ret = remote;
        return error;
}

struct catalog *remote_catalog(struct remote *remote)
{
        return remote->catalog;
}

struct session *remote_session(struct remote *remote)
{
        return remote->session;
}

void remote_get_stats(struct remote *remote, struct fetch_stats *ret)
{
        fetch_get_stats(remote->fetch, ret);
}

/* ---- looking at the tree ---- */

/* FOLDER's children are not here yet: the first version is still on its way. */
static int bring_children(struct remote *r, const struct catalog_entry *folder)
{
        struct remote_wait wait = { 0 };
        struct catalog_entry now;
        int error = catalog_get(r->catalog, folder->ino, &now);

        if (error != CATALOG_OK)
                return error > 0 ? -ESTALE : error;
        (void)remote_begin(r, &now, FETCH_READ, false, &wait);
        error = remote_await(r, &wait);
        remote_drop(r, &wait);
        return error;
}

static int find_child(struct remote *r, const char *name, struct catalog_entry *ret, struct failure *failure)
{
        const struct catalog_entry root = { .ino = CATALOG_ROOT_INO };
        int error;

        while ((error = catalog_lookup(r->catalog, CATALOG_ROOT_INO, name, strlen(name), ret)) ==
               CATALOG_PENDING) {
                error = bring_children(r, &root);
                if (error < 0)
                        return error;
        }
        return error == CATALOG_NONE ? failure_set(failure, -ENOENT, "no '%s' in '%s' of spider '%s'", name,
                                                   r->source.path, r->source.spider)
                                     : error;
}

/* Children are taken from the catalog first: a look into it holds a snapshot, and what is done with one may take long. */
struct children {
        struct catalog_entry entries[CHILDREN_AT_ONCE];
        unsigned n;
        uint64_t cookie;
};

static int take_child(const struct catalog_entry *child, uint64_t cookie, bool current, void *arg)
{
        struct children *c = arg;

        c->entries[c->n++] = *child;
        c->cookie = cookie;
        return c->n == CHILDREN_AT_ONCE;
}

int remote_each(struct remote *remote, const struct catalog_entry *folder,
                int (*each)(const struct catalog_entry *child, void *arg), void *arg)
{
        struct children *c = calloc(1, sizeof(*c));
        int error = c ? 0 : -ENOMEM;

        while (error == 0) {
                c->n = 0;
                error = catalog_list(remote->catalog, folder->ino, c->cookie, take_child, c);
                if (error == CATALOG_PENDING) {
                        error = bring_children(remote, folder);
                        continue;
                }
                error = MIN(error, 0);
                for (unsigned i = 0; i < c->n && error == 0; i++)
                        error = remote_is_interrupted(remote) ? -ECANCELED : each(&c->entries[i], arg);
                if (c->n < CHILDREN_AT_ONCE)
                        break;
        }
        free(c);
        return error;
}
