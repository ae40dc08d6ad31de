#include "tests/unit/watcher_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>

#include "base/hash.h"
#include "tests/tempdir.h"

struct row {
        char path[512];
        struct stat st;
        uint64_t identity; /* no two files ever have the same: an inode number is soon used again */
};

/* ---- what is told ---- */

static void on_changed(void *arg, const char *spider, const char *path, const char *name)
{
        struct fixture *f = arg;

        mutex_lock(&f->lock);
        while (f->gate_closed) {
                f->in_gate = true;
                condition_broadcast(&f->gate_moved);
                condition_wait(&f->gate_moved, &f->lock);
        }
        if (f->n_spots == f->spots_capacity) {
                f->spots_capacity = f->spots_capacity * 2 + 64;
                f->spots = realloc(f->spots, f->spots_capacity * sizeof(*f->spots));
        }
        struct spot *spot = &f->spots[f->n_spots++];
        snprintf(spot->spider, sizeof(spot->spider), "%s", spider);
        snprintf(spot->path, sizeof(spot->path), "%s", path);
        snprintf(spot->name, sizeof(spot->name), "%s", name ? name : "");
        spot->whole = !name;
        f->told++;
        mutex_unlock(&f->lock);
}

static void on_lost(void *arg, const char *spider)
{
        struct fixture *f = arg;

        mutex_lock(&f->lock);
        if (!spider)
                f->lost_all++;
        else if (strcmp(spider, SPIDER) == 0)
                f->lost_spider++;
        mutex_unlock(&f->lock);
}

void forget_told(struct fixture *f)
{
        mutex_lock(&f->lock);
        f->n_spots = f->told = f->lost_all = f->lost_spider = 0;
        mutex_unlock(&f->lock);
}

static unsigned count_of(struct fixture *f, const unsigned *counter)
{
        unsigned count;

        mutex_lock(&f->lock);
        count = *counter;
        mutex_unlock(&f->lock);
        return count;
}

unsigned lost_all(struct fixture *f)
{
        return count_of(f, &f->lost_all);
}

unsigned lost_spider(struct fixture *f)
{
        return count_of(f, &f->lost_spider);
}

unsigned told(struct fixture *f)
{
        return count_of(f, &f->told);
}

/* ---- the model ---- */

static struct row *row_find(struct fixture *f, const char *path)
{
        for (size_t i = 0; i < f->n_rows; i++)
                if (strcmp(f->rows[i].path, path) == 0)
                        return &f->rows[i];
        return NULL;
}

void join(char *out, size_t size, const char *path, const char *name)
{
        assert_true((size_t)snprintf(out, size, "%s%s%s", path, path[0] && name[0] ? "/" : "", name) < size);
}

static uint64_t identity_of(const struct fixture *f, const char *path)
{
        struct {
                struct file_handle head;
                char room[MAX_HANDLE_SZ];
        } handle = { .head.handle_bytes = MAX_HANDLE_SZ };
        char full[700];
        int mount_id;

        join(full, sizeof(full), f->spider, path);
        if (name_to_handle_at(AT_FDCWD, full, &handle.head, &mount_id, 0) < 0)
                return 0;
        return hash_xxh3_64(&handle, sizeof(handle.head) + handle.head.handle_bytes);
}

static void row_put(struct fixture *f, const char *path, const struct stat *st)
{
        struct row *row = row_find(f, path);

        if (!row) {
                if (f->n_rows == f->rows_capacity) {
                        f->rows_capacity = f->rows_capacity * 2 + 64;
                        f->rows = realloc(f->rows, f->rows_capacity * sizeof(*f->rows));
                }
                row = &f->rows[f->n_rows++];
                snprintf(row->path, sizeof(row->path), "%s", path);
        }
        row->st = *st;
        row->identity = identity_of(f, path);
}

void rows_remove(struct fixture *f, const char *path)
{
        size_t len = strlen(path), kept = 0;

        for (size_t i = 0; i < f->n_rows; i++) {
                const char *p = f->rows[i].path;
                bool below = len == 0 || (strncmp(p, path, len) == 0 && (p[len] == '\0' || p[len] == '/'));
                if (!below)
                        f->rows[kept++] = f->rows[i];
        }
        f->n_rows = kept;
}

static int stat_in(const struct fixture *f, const char *path, struct stat *st)
{
        char full[700];

        join(full, sizeof(full), f->spider, path);
        return lstat(full, st);
}

/* Adds the folder and all below it to the rows; with a watcher (not for comparing) the way that a scanner does: watched before read. */
void walk(struct fixture *f, const char *path, struct watcher *watcher)
{
        char full[700], below[512];
        struct stat st;
        struct dirent *d;
        DIR *dir;
        int fd;

        join(full, sizeof(full), f->spider, path);
        fd = open(full, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        assert_true(fd >= 0);
        if (watcher)
                assert_int_equal(watcher_add(watcher, SPIDER, path, fd), 0);
        assert_int_equal(fstat(fd, &st), 0);
        row_put(f, path, &st);
        dir = fdopendir(fd);
        assert_non_null(dir);
        while ((d = readdir(dir))) {
                if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
                        continue;
                join(below, sizeof(below), path, d->d_name);
                assert_int_equal(stat_in(f, below, &st), 0);
                if (S_ISDIR(st.st_mode))
                        walk(f, below, watcher);
                else
                        row_put(f, below, &st);
        }
        closedir(dir);
}

static bool is_still(const struct fixture *f, const struct row *row, const struct stat *st)
{
        return row->st.st_ino == st->st_ino && row->st.st_dev == st->st_dev &&
               row->identity == identity_of(f, row->path) &&
               (row->st.st_mode & S_IFMT) == (st->st_mode & S_IFMT);
}

/* The scanner's part: looks at NAME in PATH, and walks only what is a new folder. */
static void look(struct fixture *f, const char *path, const char *name)
{
        const struct row *folder = row_find(f, path), *row;
        char below[512];
        struct stat st;
        bool was_folder;

        /* Not there, or not the folder we knew: its parent was told as well. */
        if (!folder || stat_in(f, path, &st) < 0 || !is_still(f, folder, &st))
                return;
        row_put(f, path, &st);
        join(below, sizeof(below), path, name);
        row = row_find(f, below);
        was_folder = row && S_ISDIR(row->st.st_mode);
        if (stat_in(f, below, &st) < 0) {
                rows_remove(f, below);
                if (was_folder)
                        watcher_forget(f->watcher, SPIDER, below);
        } else if (row && is_still(f, row, &st)) {
                row_put(f, below, &st);
        } else {
                rows_remove(f, below);
                if (was_folder && !S_ISDIR(st.st_mode))
                        watcher_forget(f->watcher, SPIDER, below);
                if (S_ISDIR(st.st_mode))
                        walk(f, below, f->watcher);
                else
                        row_put(f, below, &st);
        }
}

static int compare_spots(const void *a, const void *b)
{
        return strcmp(((const struct spot *)a)->path, ((const struct spot *)b)->path);
}

static void look_at_spots(struct fixture *f)
{
        struct spot *spots;
        size_t n;

        mutex_lock(&f->lock);
        spots = f->spots;
        n = f->n_spots;
        f->spots = NULL;
        f->n_spots = f->spots_capacity = 0;
        mutex_unlock(&f->lock);
        if (n > 0)
                qsort(spots, n, sizeof(*spots), compare_spots);
        for (size_t i = 0; i < n; i++) {
                struct stat st;
                assert_string_equal(spots[i].spider, SPIDER);
                if (!spots[i].whole)
                        look(f, spots[i].path, spots[i].name);
                else if (stat_in(f, spots[i].path, &st) == 0)
                        row_put(f, spots[i].path, &st);
        }
        free(spots);
}

static int compare_rows(const void *a, const void *b)
{
        return strcmp(((const struct row *)a)->path, ((const struct row *)b)->path);
}

static void check_model(struct fixture *f)
{
        struct fixture disk = { 0 };

        memcpy(disk.spider, f->spider, sizeof(disk.spider));
        walk(&disk, "", NULL);
        assert_true(f->n_rows > 0);
        qsort(disk.rows, disk.n_rows, sizeof(*disk.rows), compare_rows);
        qsort(f->rows, f->n_rows, sizeof(*f->rows), compare_rows);
        for (size_t i = 0; i < MIN(disk.n_rows, f->n_rows); i++) {
                const struct row *a = &disk.rows[i], *b = &f->rows[i];
                assert_string_equal(a->path, b->path);
                bool same = is_still(f, b, &a->st) && a->st.st_mode == b->st.st_mode &&
                            a->st.st_size == b->st.st_size && a->st.st_mtim.tv_sec == b->st.st_mtim.tv_sec &&
                            a->st.st_mtim.tv_nsec == b->st.st_mtim.tv_nsec;
                if (!same)
                        fail_msg("'%s' has changed, and nobody was told", a->path);
        }
        assert_int_equal(disk.n_rows, f->n_rows);
        free(disk.rows);
}

/* ---- fixture ---- */

int start(struct fixture *f, unsigned drop_percent)
{
        char root[128];
        const struct watcher_options options = {
                .root = root,
                .kind = f->kind,
                .drop_percent = drop_percent,
                .changed = on_changed,
                .lost = on_lost,
                .arg = f,
        };

        join(root, sizeof(root), f->base, "root");
        return watcher_new(&options, &f->watcher);
}

int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        char path[128];

        f->kind = *(enum watcher_kind *)*state;
        mutex_init(&f->lock);
        condition_init(&f->gate_moved);
        strcpy(f->base, "/tmp/test_watcher.XXXXXX");
        assert_non_null(mkdtemp(f->base));
        f->mounted = mount("none", f->base, "tmpfs", 0, "mode=755") == 0;
        join(path, sizeof(path), f->base, "root");
        assert_int_equal(mkdir(path, 0755), 0);
        join(f->spider, sizeof(f->spider), path, SPIDER);
        assert_int_equal(mkdir(f->spider, 0755), 0);
        *state = f;
        return 0;
}

int tear_down(void **state)
{
        struct fixture *f = *state;

        watcher_free(f->watcher);
        free(f->spots);
        free(f->rows);
        condition_release(&f->gate_moved);
        mutex_release(&f->lock);
        if (f->mounted)
                umount2(f->base, MNT_DETACH);
        assert_int_equal(tempdir_remove(f->base), 0);
        free(f);
        return 0;
}

/* Starts the watcher and has all that is there watched. False: not permitted here. */
bool begin(struct fixture *f)
{
        int r = start(f, 0);

        if (r == -EPERM && f->kind == WATCHER_FANOTIFY)
                return false;
        assert_int_equal(r, 0);
        assert_int_equal(watcher_get_kind(f->watcher), f->kind);
        assert_false(watcher_covers(f->watcher, SPIDER));
        walk(f, "", f->watcher);
        assert_true(watcher_covers(f->watcher, SPIDER));
        return true;
}

/* Runs a command of the shell's in the spider's folder. */
void run(const struct fixture *f, const char *command)
{
        char line[1024];

        assert_true((size_t)snprintf(line, sizeof(line), "cd '%s' && { %s ; } >/dev/null 2>&1", f->spider,
                                     command) < sizeof(line));
        if (system(line) != 0)
                fail_msg("failed: %s", command);
}

void sync_model(struct fixture *f)
{
        watcher_drain(f->watcher);
        look_at_spots(f);
        check_model(f);
        assert_int_equal(lost_all(f) + lost_spider(f), 0);
}

/* A command, and what it did is in the model afterwards. */
void after(struct fixture *f, const char *command)
{
        run(f, command);
        sync_model(f);
}

bool was_told(struct fixture *f, const char *path, const char *name)
{
        bool found = false;

        mutex_lock(&f->lock);
        for (size_t i = 0; i < f->n_spots && !found; i++)
                found = strcmp(f->spots[i].path, path) == 0 && strcmp(f->spots[i].name, name) == 0 &&
                        f->spots[i].whole == (name[0] == '\0');
        mutex_unlock(&f->lock);
        return found;
}

/* A command, and it is told as NAME in PATH. */
void tells(struct fixture *f, const char *command, const char *path, const char *name)
{
        run(f, command);
        watcher_drain(f->watcher);
        if (!was_told(f, path, name))
                fail_msg("%s: not told as '%s' in '%s'", command, name, path);
        sync_model(f);
}

void set_gate(struct fixture *f, bool closed)
{
        mutex_lock(&f->lock);
        f->gate_closed = closed;
        f->in_gate = false;
        condition_broadcast(&f->gate_moved);
        mutex_unlock(&f->lock);
}

/* The reader is held in the middle of telling of `first`: what follows stays in the kernel's queue. */
void hold_reader(struct fixture *f)
{
        set_gate(f, true);
        run(f, "echo 1 > first");
        mutex_lock(&f->lock);
        while (!f->in_gate)
                condition_wait(&f->gate_moved, &f->lock);
        mutex_unlock(&f->lock);
}
