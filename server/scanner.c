#include "server/scanner.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "base/buffer.h"
#include "base/log.h"
#include "server/filehash.h"
#include "server/metrics.h"
#include "server/stamp.h"

#define SLICE_ENTRIES 128 /* children that one job stats and hashes: parallel also within one large folder */
#define TRIES         3   /* times that an entry which changes its kind under our eyes is looked at */

/* A node that is left out; taken out of its folder when that is finished. */
#define KIND_GONE UINT8_MAX

/* One pass. Freed when its root folder is finished. */
struct scan {
        struct scanner scanner;
        char *label; /* owned */
        scanner_done_fn done;
        void *arg;
        struct listing *listing; /* owned; its nodes are written by the jobs of their folders */
        _Atomic int error;       /* the first that ends the whole pass */
        _Atomic uint64_t entries, files, folders, symlinks, bytes, specials, too_long, unknown;
};

/* A run of a folder's children, as a job. */
struct slice {
        struct pool_job job;
        struct scan_folder *folder;
        uint32_t first, count;
};

/*
 * A folder being scanned: from the moment its parent has seen it until its digest is known. Descriptors stay open only
 * while something has yet to be opened beneath them; as jobs run last come first served, that is the way down to
 * where the pool's threads are. No limit of depth is needed: a path's length bounds it to 2,048.
 */
struct scan_folder {
        struct pool_job job;
        struct scan *scan;
        struct scan_folder *parent;    /* lives longer: it waits for us; NULL for the root */
        struct listing_node *node;     /* in the parent's nodes; ours to write until we are finished */
        struct listing_folder *folder; /* owned until it is handed to the node */
        struct slice *slices;          /* owned */
        size_t path_len;
        int fd;
        atomic_uint fd_users; /* slices not done and child folders not opened; the last closes fd */
        atomic_uint pending;  /* slices and child folders not finished; the last finishes us */
};

static bool scan_stopped(struct scan *scan)
{
        int none = 0;

        if (pool_cancelled(scan->scanner.pool))
                atomic_compare_exchange_strong(&scan->error, &none, -ECANCELED);
        return atomic_load_explicit(&scan->error, memory_order_relaxed) != 0;
}

static void scan_fail(struct scan *scan, int error)
{
        int none = 0;

        atomic_compare_exchange_strong(&scan->error, &none, error);
}

/* The path of a child for the log, as far as BUF holds it. */
static const char *log_path(const struct scan_folder *folder, const struct listing_node *node,
                            char buf[PATH_BYTES_MAX + 1])
{
        size_t at = PATH_BYTES_MAX;

        buf[at] = '\0';
        for (;;) {
                if (node->name_len > at)
                        return buf + at;
                at -= node->name_len;
                memcpy(buf + at, node->name, node->name_len);
                if (!folder || !folder->parent || at == 0)
                        return buf + at;
                buf[--at] = '/';
                node = folder->node;
                folder = folder->parent;
        }
}

static void mark_unknown(const struct scan_folder *folder, struct listing_node *node, int error)
{
        char path[PATH_BYTES_MAX + 1];

        node->unknown = true;
        atomic_fetch_add(&folder->scan->unknown, 1);
        log_limited(LOG_LEVEL_WARNING, "scan",
                    "%s: '%s' cannot be read: %s; workers keep what they know of it", folder->scan->label,
                    log_path(folder, node, path), error == -EAGAIN ? "it keeps changing" : strerror(-error));
}

/* It is not there any more, or no longer what it was a moment ago: the next pass will see what it has become. */
static bool has_vanished(int error)
{
        return error == -ENOENT || error == -ENOTDIR || error == -ELOOP;
}

/* Says nothing about the entry: the whole pass fails. */
static bool is_fatal(int error)
{
        return error == -ENOMEM || error == -ECANCELED;
}

static void drop_fd(struct scan_folder *folder)
{
        if (atomic_fetch_sub(&folder->fd_users, 1) == 1) {
                close(folder->fd);
                folder->fd = -1;
        }
}

/* ---- finishing: digests go up ---- */

static void scan_finish(struct scan *scan)
{
        struct listing *listing = TAKE_PTR(scan->listing);
        int error = atomic_load(&scan->error);

        if (error == 0) {
                listing->files = scan->files;
                listing->folders = scan->folders;
                listing->symlinks = scan->symlinks;
                listing->bytes = scan->bytes;
                listing->specials = scan->specials;
                listing->too_long = scan->too_long;
                listing->unknown = scan->unknown;
                listing->entries = scan->entries + 1; /* and the root */
                entry_root_digest(listing->root.mode, listing->root.mtime_ns, listing->root.digest,
                                  listing->root_digest);
                metrics_add(METRIC_UNKNOWN, listing->unknown);
                metrics_add(METRIC_LEFT_OUT, listing->specials + listing->too_long);
        } else {
                listing_unref(TAKE_PTR(listing));
        }
        scan->done(scan->arg, error, listing);
        free(scan->label);
        free(scan);
}

static void add_to_digest(struct hasher *hasher, const struct listing_node *node)
{
        const struct entry_digest_input child = {
                .name = node->name,
                .name_len = node->name_len,
                .kind = node->kind,
                .mode = node->mode,
                .mtime_ns = node->mtime_ns,
                .size = node->size,
                .unknown = node->unknown,
                .algorithm = HASH_XXH3,
                .digest = node->digest,
        };

        entry_digest_add(hasher, &child);
}

static void count_node(struct scan *scan, const struct listing_node *node)
{
        switch (node->kind) {
        case ENTRY_FILE:
                atomic_fetch_add_explicit(&scan->files, 1, memory_order_relaxed);
                atomic_fetch_add_explicit(&scan->bytes, node->size, memory_order_relaxed);
                break;
        case ENTRY_DIRECTORY:
                atomic_fetch_add_explicit(&scan->folders, 1, memory_order_relaxed);
                break;
        case ENTRY_SYMLINK:
                atomic_fetch_add_explicit(&scan->symlinks, 1, memory_order_relaxed);
                break;
        default:
                break;
        }
}

/* All children are known: takes out those that are gone, makes the digest. */
static int complete_folder(struct scan_folder *f)
{
        _cleanup_hasher_ struct hasher *hasher = NULL;
        struct listing_folder *folder = f->folder;
        struct content_id id;
        uint32_t n = 0;
        int r = hasher_new(HASH_XXH3, &hasher);

        if (r < 0)
                return r;
        for (uint32_t i = 0; i < folder->count; i++) {
                if (folder->nodes[i].kind == KIND_GONE)
                        continue;
                if (n != i)
                        folder->nodes[n] = folder->nodes[i];
                count_node(f->scan, &folder->nodes[n]);
                add_to_digest(hasher, &folder->nodes[n]);
                n++;
        }
        folder->count = n;
        atomic_fetch_add_explicit(&f->scan->entries, n, memory_order_relaxed);
        hasher_final(hasher, &id);
        memcpy(f->node->digest, id.bytes, HASH_BYTES);
        return 0;
}

/* A folder has nothing pending: it is freed, and so is every one above that waited for nothing else. */
static void folder_finish(struct scan_folder *f)
{
        for (;;) {
                struct scan_folder *parent = f->parent;
                struct scan *scan = f->scan;

                if (f->folder) {
                        int r = complete_folder(f);
                        if (r < 0)
                                scan_fail(scan, r);
                        f->node->folder = TAKE_PTR(f->folder);
                }
                free(f->slices);
                free(f);
                if (!parent) {
                        scan_finish(scan);
                        return;
                }
                if (atomic_fetch_sub(&parent->pending, 1) != 1)
                        return;
                f = parent;
        }
}

/* ---- one child ---- */

static void set_stat(struct listing_node *node, const struct stat *st)
{
        node->mode = st->st_mode & 07777;
        node->mtime_ns = stamp_ns(&st->st_mtim);
        node->ctime_ns = stamp_ns(&st->st_ctim);
        node->device = st->st_dev;
        node->inode = st->st_ino;
        node->size = S_ISREG(st->st_mode) || S_ISLNK(st->st_mode) ? (uint64_t)st->st_size : 0;
        node->kind = S_ISREG(st->st_mode)   ? ENTRY_FILE
                     : S_ISDIR(st->st_mode) ? ENTRY_DIRECTORY
                     : S_ISLNK(st->st_mode) ? ENTRY_SYMLINK
                                            : KIND_GONE;
}

static void stat_child(struct scan_folder *f, struct listing_node *node)
{
        struct stat st;

        if (fstatat(f->fd, node->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
                set_stat(node, &st);
                if (node->kind == KIND_GONE)
                        atomic_fetch_add(&f->scan->specials, 1);
                return;
        }
        node->kind = KIND_GONE;
        if (!has_vanished(-errno)) {
                node->kind = ENTRY_UNKNOWN;
                mark_unknown(f, node, -errno);
        }
}

static int hash_child(struct scan_folder *f, struct listing_node *node)
{
        _cleanup_close_ int fd =
                openat(f->fd, node->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        struct file_state state;
        struct stat st;
        int r;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -ELOOP;
        r = file_hash(fd, HASH_XXH3, f->scan->scanner.index, f->scan->scanner.pool, &state);
        if (r < 0)
                return r;
        set_stat(node, &state.st);
        memcpy(node->digest, state.id.bytes, HASH_BYTES);
        return 0;
}

static int read_target(struct scan_folder *f, struct listing_node *node)
{
        char target[ENTRY_TARGET_MAX + 1];
        ssize_t n = readlinkat(f->fd, node->name, target, sizeof(target));

        if (n < 0)
                return errno == EINVAL ? -ELOOP : -errno;
        if (n == 0 || n > ENTRY_TARGET_MAX)
                return -ENAMETOOLONG;
        target[n] = '\0';
        node->target = strdup(target);
        if (!node->target)
                return -ENOMEM;
        node->size = (uint64_t)n;
        hash_xxh3(target, (size_t)n, node->digest);
        return 0;
}

static void folder_run(struct pool_job *job);

static int start_folder(struct scan_folder *f, struct listing_node *node)
{
        struct scan_folder *child = calloc(1, sizeof(*child));

        if (!child)
                return -ENOMEM;
        child->job.run = folder_run;
        child->scan = f->scan;
        child->parent = f;
        child->node = node;
        child->path_len = f->path_len + (f->path_len > 0) + node->name_len;
        child->fd = -1;
        atomic_fetch_add(&f->pending, 1);
        atomic_fetch_add(&f->fd_users, 1);
        pool_push(f->scan->scanner.pool, &child->job);
        return 0;
}

/* What is left to do for a child once it was stat'ed and the index was asked. */
static int finish_child(struct scan_folder *f, struct listing_node *node, bool hashed)
{
        if (node->kind == ENTRY_DIRECTORY)
                return start_folder(f, node);
        if (node->kind == ENTRY_SYMLINK)
                return read_target(f, node);
        if (node->kind == ENTRY_FILE && !hashed)
                return hash_child(f, node);
        return 0;
}

static void scan_child(struct scan_folder *f, struct listing_node *node, bool hashed)
{
        int r = -ELOOP;

        for (unsigned i = 0; r == -ELOOP && i < TRIES; i++) {
                if (i > 0) { /* another kind of entry took its place since the stat */
                        hashed = false;
                        stat_child(f, node);
                }
                r = node->unknown ? 0 : finish_child(f, node, hashed);
        }
        if (r >= 0)
                return;
        if (is_fatal(r))
                scan_fail(f->scan, r);
        if (has_vanished(r) || is_fatal(r))
                node->kind = KIND_GONE;
        else
                mark_unknown(f, node, r);
}

/* ---- jobs ---- */

/* Asks the index for all files among the nodes at once; HASHED tells which it knew. */
static void ask_index(struct scan_folder *f, struct listing_node *nodes, uint32_t count,
                      bool hashed[SLICE_ENTRIES])
{
        struct index_query queries[SLICE_ENTRIES];
        uint32_t of[SLICE_ENTRIES], n = 0;

        for (uint32_t i = 0; i < count; i++) {
                const struct listing_node *node = &nodes[i];
                hashed[i] = false;
                if (node->kind != ENTRY_FILE)
                        continue;
                queries[n] = (struct index_query){
                        .algorithm = HASH_XXH3,
                        .stamp = {
                                .device = node->device,
                                .inode = node->inode,
                                .size = node->size,
                                .mtime_ns = node->mtime_ns,
                                .ctime_ns = node->ctime_ns,
                        },
                };
                of[n++] = i;
        }
        if (n > 0)
                index_lookup(f->scan->scanner.index, queries, n);
        for (uint32_t i = 0; i < n; i++) {
                hashed[of[i]] = queries[i].known;
                if (queries[i].known)
                        memcpy(nodes[of[i]].digest, queries[i].digest, HASH_BYTES);
        }
}

static void slice_run(struct pool_job *job)
{
        struct slice *slice = (struct slice *)((char *)job - offsetof(struct slice, job));
        struct scan_folder *f = slice->folder;
        struct listing_node *nodes = f->folder->nodes + slice->first;
        bool hashed[SLICE_ENTRIES];

        for (uint32_t i = 0; i < slice->count; i++) {
                if (scan_stopped(f->scan))
                        nodes[i].kind = KIND_GONE;
                else
                        stat_child(f, &nodes[i]);
        }
        ask_index(f, nodes, slice->count, hashed);
        for (uint32_t i = 0; i < slice->count; i++) {
                if (scan_stopped(f->scan))
                        nodes[i].kind = KIND_GONE;
                if (nodes[i].kind != KIND_GONE)
                        scan_child(f, &nodes[i], hashed[i]);
        }
        drop_fd(f);
        if (atomic_fetch_sub(&f->pending, 1) == 1)
                folder_finish(f);
}

static int compare_nodes(const void *a, const void *b)
{
        return strcmp(((const struct listing_node *)a)->name, ((const struct listing_node *)b)->name);
}

/* Makes the nodes from NAMES, a run of N NUL-terminated names, which the folder takes over. */
static int make_nodes(struct listing_folder *folder, struct buffer *names, uint32_t n)
{
        const char *p;

        folder->nodes = calloc(n, sizeof(*folder->nodes));
        if (!folder->nodes)
                return -ENOMEM;
        folder->names = names->data;
        *names = (struct buffer){ 0 };
        p = folder->names;
        for (uint32_t i = 0; i < n; i++) {
                folder->nodes[i] = (struct listing_node){
                        .name = p,
                        .name_len = (uint16_t)strlen(p),
                        .kind = KIND_GONE,
                };
                p += folder->nodes[i].name_len + 1;
        }
        folder->count = n;
        qsort(folder->nodes, n, sizeof(*folder->nodes), compare_nodes);
        return 0;
}

static void note_too_long(struct scan_folder *f, const char *name)
{
        struct listing_node node = { .name = name, .name_len = (uint16_t)strlen(name) };
        char path[PATH_BYTES_MAX + 1];

        atomic_fetch_add(&f->scan->too_long, 1);
        log_limited(LOG_LEVEL_WARNING, "scan", "%s: left out, its path is longer than %d bytes: '…%s'",
                    f->scan->label, PATH_BYTES_MAX, log_path(f, &node, path));
}

/* Reads all names of DIR into f->folder. */
static int read_names(struct scan_folder *f, DIR *dir)
{
        _cleanup_buffer_ struct buffer names = { 0 };
        uint32_t n = 0;

        for (;;) {
                const struct dirent *entry;
                size_t len;
                int r;

                errno = 0;
                entry = readdir(dir);
                if (!entry)
                        break;
                len = strlen(entry->d_name);
                if (path_check_name(entry->d_name, len) < 0)
                        continue; /* "." and ".." */
                if (f->path_len + (f->path_len > 0) + len > PATH_BYTES_MAX) {
                        note_too_long(f, entry->d_name);
                        continue;
                }
                r = n < UINT32_MAX ? buffer_append(&names, entry->d_name, len + 1) : -ENOMEM;
                if (r < 0)
                        return r;
                n++;
        }
        if (errno != 0)
                return -errno;
        return n > 0 ? make_nodes(f->folder, &names, n) : 0;
}

/* Opens the folder, reads its names; its own stat is taken before, so that a later change makes the next pass differ. */
static int folder_read(struct scan_folder *f)
{
        _cleanup_close_ int fd = -1;
        struct stat st;
        DIR *dir;
        int r;

        if (f->parent)
                f->fd = openat(f->parent->fd, f->node->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (f->fd < 0)
                return -errno;
        fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
        if (fd < 0 || fstat(f->fd, &st) < 0)
                return -errno;
        set_stat(f->node, &st);
        f->folder = calloc(1, sizeof(*f->folder));
        dir = f->folder ? fdopendir(fd) : NULL;
        if (!dir)
                return -ENOMEM;
        take_fd(&fd);
        r = read_names(f, dir);
        closedir(dir);
        return r;
}

static int push_slices(struct scan_folder *f)
{
        uint32_t count = f->folder->count, n = (count + SLICE_ENTRIES - 1) / SLICE_ENTRIES;

        f->slices = calloc(n, sizeof(*f->slices));
        if (!f->slices)
                return -ENOMEM;
        atomic_store(&f->pending, n);
        atomic_store(&f->fd_users, n);
        for (uint32_t i = n; i-- > 0;) { /* the first goes on top */
                f->slices[i] = (struct slice){
                        .job.run = slice_run,
                        .folder = f,
                        .first = i * SLICE_ENTRIES,
                        .count = MIN(SLICE_ENTRIES, count - i * SLICE_ENTRIES),
                };
                pool_push(f->scan->scanner.pool, &f->slices[i].job);
        }
        return 0;
}

/* The folder could not be read: it has no children here, and no worker may take that for "empty". */
static void folder_fail(struct scan_folder *f, int error)
{
        listing_folder_free(TAKE_PTR(f->folder));
        if (!f->parent || is_fatal(error))
                scan_fail(f->scan, error);
        else if (has_vanished(error))
                f->node->kind = KIND_GONE;
        else
                mark_unknown(f->parent, f->node, error);
}

static void folder_run(struct pool_job *job)
{
        struct scan_folder *f = (struct scan_folder *)((char *)job - offsetof(struct scan_folder, job));
        int r = scan_stopped(f->scan) ? -ECANCELED : folder_read(f);

        if (f->parent)
                drop_fd(f->parent);
        if (r >= 0 && f->folder->count > 0) {
                r = push_slices(f);
                if (r >= 0)
                        return; /* f is theirs now */
        }
        if (f->fd >= 0)
                close(f->fd);
        if (r < 0)
                folder_fail(f, r);
        folder_finish(f);
}

int scanner_start(const struct scanner *scanner, int fd, const char *label, scanner_done_fn done, void *arg)
{
        struct scan *scan = calloc(1, sizeof(*scan));
        struct scan_folder *root = calloc(1, sizeof(*root));

        if (scan) {
                scan->label = strdup(label);
                scan->listing = listing_new();
        }
        if (!scan || !root || !scan->label || !scan->listing) {
                if (scan) {
                        free(scan->label);
                        listing_unref(scan->listing);
                }
                free(scan);
                free(root);
                close(fd);
                return -ENOMEM;
        }
        scan->scanner = *scanner;
        scan->done = done;
        scan->arg = arg;
        root->job.run = folder_run;
        root->scan = scan;
        root->node = &scan->listing->root;
        root->fd = fd;
        pool_push(scanner->pool, &root->job);
        return 0;
}
