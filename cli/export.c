#include "cli/command.h"

#include <string.h>

#include <utlist.h>

#include "base/log.h"
#include "cli/bar.h"
#include "cli/export_private.h"
#include "cli/remote_call.h"
#include "fs/status.h"

/*
 * The tree is walked once, in order. What is come by is queued, and small contents are asked for at once; each item is put when it is its turn, so
 * that hundreds of contents are on their way while one is written.
 */
#define QUEUE_MAX       512
#define QUEUE_BYTES_MAX ((uint64_t)32 << 20)
#define FOLLOW_MAX      5  /* how often a file that the master replaces is begun anew */
#define SAID_MAX        20 /* failures that are told one by one */

struct item {
        struct catalog_entry entry;
        char *path; /* owned */
        bool leaving;
        struct remote_wait wait;
        struct item *prev, *next;
};

struct export
{
        struct remote *remote;
        struct export_target *target;
        struct item *queue; /* owned */
        unsigned queued;
        uint64_t queued_bytes;
        bool refused; /* the target did not take what a file brought */
        uint64_t files, directories, symlinks, bytes, written_files, written_bytes, same_files, failed;
        uint64_t total_bytes;
        struct bar bar;
};

/* ---- what fails ---- */

/* Whether it is this one file's trouble, and the others may do better. */
static bool is_its_own(int error)
{
        switch (-error) {
        case EIO:
        case ESTALE:
        case EBADMSG:
        case EISDIR:
        case ENOTDIR:
        case ENOTEMPTY:
        case EEXIST:
        case EACCES:
        case EPERM:
        case ENAMETOOLONG:
        case ELOOP:
        case EXDEV:
        case ENOENT:
                return true;
        default:
                return false;
        }
}

/* ERROR of one item: 0 to go on, or what ends it all. */
static int judge(struct export *x, const char *path, int error, const struct failure *failure)
{
        char *shown;

        if (error == 0 || !is_its_own(error))
                return error;
        if (++x->failed > SAID_MAX)
                return 0;
        shown = strdup(path);
        if (shown)
                log_make_printable(shown);
        bar_clear(&x->bar);
        fprintf(stderr, "fsyncfs: '%s': %s\n", shown ?: "?",
                error == -ESTALE ? "the master goes on replacing it"
                : error == -EIO && !x->refused && !failure->text[0]
                        ? "the master cannot read it, or what it sends is damaged"
                        : failure_text(failure, error));
        free(shown);
        return 0;
}

/* ---- one file ---- */

static int put_data(const void *data, size_t len, void *arg)
{
        struct export *x = arg;
        int r = x->target->data(x->target, data, len);

        x->refused = r < 0;
        x->written_bytes += len;
        bar_show(&x->bar, &(struct bar_state){ .bytes = x->bytes + x->written_bytes,
                                               .total_bytes = x->total_bytes,
                                               .moved_bytes = x->written_bytes,
                                               .counted = true });
        return r;
}

/* One try. -ESTALE: another one may do, of another content. */
static int put_content(struct export *x, struct item *item, struct failure *failure)
{
        const struct export_item put = { .entry = &item->entry, .path = item->path };
        const uint64_t before = x->written_bytes;
        int r = x->target->begin(x->target, &put, failure), undone;

        x->refused = r < 0;
        if (r < 0)
                return r;
        r = remote_read(x->remote, &item->entry, &item->wait, put_data, x);
        if (r == 0) {
                r = x->target->end(x->target, failure);
                x->refused = r < 0;
                return r;
        }
        x->written_bytes = before;
        undone = x->target->restart(x->target);
        return undone < 0 && r != -EPIPE && r != -ECANCELED
                       ? failure_set(failure, -ESPIPE, "it broke off in '%s': %s", item->path, strerror(-r))
                       : r;
}

static int put_file(struct export *x, struct item *item, struct failure *failure)
{
        int r = put_content(x, item, failure);

        for (int i = 0; r == -ESTALE && !x->refused && i < FOLLOW_MAX; i++) {
                if (remote_follow(x->remote, &item->entry) < 0)
                        break;
                r = put_content(x, item, failure);
        }
        x->written_files += r == 0;
        return r;
}

static int put_symlink(struct export *x, struct item *item, struct failure *failure)
{
        _cleanup_buffer_ struct buffer link = { 0 };
        struct export_item put = { .entry = &item->entry, .path = item->path };
        int r = catalog_readlink(remote_catalog(x->remote), item->entry.ino, &link);

        if (r != CATALOG_OK)
                return r < 0 ? r : -ESTALE;
        put.link = link.data ?: "";
        return x->target->symlink(x->target, &put, failure);
}

/* ---- the queue ---- */

static void free_item(struct export *x, struct item *item)
{
        remote_drop(x->remote, &item->wait);
        free(item->path);
        free(item);
}

static int put_first(struct export *x, struct failure *failure)
{
        struct item *item = x->queue;
        const struct export_item put = { .entry = &item->entry, .path = item->path };
        int r;

        DL_DELETE(x->queue, item);
        x->queued--;
        x->queued_bytes -= item->entry.kind == ENTRY_FILE ? item->entry.size : 0;
        if (item->entry.kind == ENTRY_DIRECTORY)
                r = item->leaving ? x->target->leave(x->target, &put, failure)
                                  : x->target->enter(x->target, &put, failure);
        else if (item->entry.kind == ENTRY_SYMLINK)
                r = put_symlink(x, item, failure);
        else
                r = put_file(x, item, failure);
        r = judge(x, item->path, r, failure);
        free_item(x, item);
        return r;
}

static int put_until(struct export *x, unsigned queued, uint64_t bytes, struct failure *failure)
{
        int r = 0;

        while (r == 0 && x->queue && (x->queued > queued || x->queued_bytes > bytes)) {
                *failure = (struct failure){ 0 };
                r = put_first(x, failure);
        }
        return r;
}

static struct item *new_item(const struct remote_visit *visit, const char *path)
{
        struct item *item = calloc(1, sizeof(*item));

        if (!item)
                return NULL;
        item->entry = *visit->entry;
        item->leaving = visit->leaving;
        item->path = strdup(path);
        if (!item->path)
                free(TAKE_PTR(item));
        return item;
}

struct export_walk {
        struct export *export;
        struct failure *failure;
};

static int count_same(struct export *x, const struct catalog_entry *file)
{
        x->same_files++;
        x->bytes += file->size;
        return 0;
}

static void count(struct export *x, const struct catalog_entry *entry)
{
        x->files += entry->kind == ENTRY_FILE;
        x->directories += entry->kind == ENTRY_DIRECTORY;
        x->symlinks += entry->kind == ENTRY_SYMLINK;
}

static int take_visit(const struct remote_visit *visit, void *arg)
{
        const struct export_walk *walk = arg;
        struct export *x = walk->export;
        const struct catalog_entry *entry = visit->entry;
        const char *path = visit->path_len == 0 && entry->kind != ENTRY_DIRECTORY ? entry->name : visit->path;
        const struct export_item put = { .entry = entry, .path = path };
        struct item *item;
        int r;

        if (!visit->leaving)
                count(x, entry);
        /* Where files may be there already, folders are made ahead of what is queued: only in one that is there can a file be. */
        if (entry->kind == ENTRY_DIRECTORY && !visit->leaving && x->target->has)
                return judge(x, path, x->target->enter(x->target, &put, walk->failure), walk->failure);
        if (entry->kind == ENTRY_FILE && x->target->has && x->target->has(x->target, &put))
                return count_same(x, entry);
        item = new_item(visit, path);
        if (!item)
                return -ENOMEM;
        r = put_until(x, QUEUE_MAX - 1, QUEUE_BYTES_MAX, walk->failure);
        if (entry->kind == ENTRY_FILE && r == 0)
                remote_want(x->remote, entry, &item->wait);
        DL_APPEND(x->queue, item);
        x->queued++;
        x->queued_bytes += entry->kind == ENTRY_FILE ? entry->size : 0;
        return r;
}

static int run(struct export *x, const struct catalog_entry *top, struct failure *failure)
{
        struct export_walk walk = { .export = x, .failure = failure };
        struct item *item, *next;
        int r = remote_walk(x->remote, top, take_visit, &walk);

        if (r == 0)
                r = put_until(x, 0, 0, failure);
        DL_FOREACH_SAFE (x->queue, item, next) {
                DL_DELETE(x->queue, item);
                free_item(x, item);
        }
        return r;
}

/* ---- the command ---- */

static void print_summary(const struct export *x, const struct remote_call *call)
{
        const double seconds = (double)(clock_monotonic_ns() - x->bar.began_ns) / (double)NSEC_PER_SEC;
        struct catalog_version version;
        struct fetch_stats fetched;
        char hex[2 * HASH_BYTES + 1], written[32], came[32];
        json_t *object;

        catalog_get_version(remote_catalog(x->remote), &version);
        remote_get_stats(x->remote, &fetched);
        if (!call->json) {
                printf("%s: %lu files; %lu written, %s; %lu were there; %s came from the master, in %.1f s\n",
                       call->operands[1], (unsigned long)x->files, (unsigned long)x->written_files,
                       format_bytes(x->written_bytes, written), (unsigned long)x->same_files,
                       format_bytes(fetched.bytes, came), seconds);
                return;
        }
        hex_encode(version.digest, hash_len(version.hash), hex);
        object = json_pack("{s:o, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "source",
                           status_path_json(call->operands[0]), "target", status_path_json(call->operands[1]),
                           "version", hex, "revision", (json_int_t)version.revision, "files",
                           (json_int_t)x->files, "directories", (json_int_t)x->directories, "symlinks",
                           (json_int_t)x->symlinks, "written_files", (json_int_t)x->written_files,
                           "written_bytes", (json_int_t)x->written_bytes, "same_files",
                           (json_int_t)x->same_files, "failed", (json_int_t)x->failed, "fetched_files",
                           (json_int_t)fetched.files, "fetched_bytes", (json_int_t)fetched.bytes,
                           "elapsed_seconds", seconds);
        if (object)
                print_json(object);
        json_decref(object);
}

static int open_target(const struct remote_call *call, struct export_target **ret, struct failure *failure)
{
        return strcmp(call->operands[1], "-") == 0 ? export_tar_new(STDOUT_FILENO, ret)
                                                   : export_folder_new(call->operands[1], ret, failure);
}

/* 0, or what ended it. */
static int export(struct export *x, const struct remote_call *call, const struct catalog_entry *top)
{
        struct failure failure = { 0 };
        struct catalog_version version;
        int r = open_target(call, &x->target, &failure), ended;

        if (r == 0) {
                catalog_get_version(remote_catalog(x->remote), &version);
                x->total_bytes = top->kind == ENTRY_FILE ? top->size : version.bytes;
                bar_begin(&x->bar, call->operands[0]);
                r = run(x, top, &failure);
                bar_clear(&x->bar);
                ended = x->target->finish(x->target, r == 0);
                r = r < 0 ? r : ended;
        }
        if (r < 0 && r != -EPIPE && !remote_is_interrupted(x->remote))
                fprintf(stderr, "fsyncfs: %s\n", failure_text(&failure, r));
        if (r == 0 && x->failed > SAID_MAX)
                fprintf(stderr, "fsyncfs: %lu in all could not be exported\n", (unsigned long)x->failed);
        if (r == 0 && strcmp(call->operands[1], "-") != 0)
                print_summary(x, call);
        return r;
}

int command_export(int argc, char **argv)
{
        struct export x = { 0 };
        struct remote_call call;
        struct catalog_entry top;
        int r, code = 0;

        if (!remote_call_parse(argc, argv, "j2", &call, &code))
                return code;
        if (strcmp(call.operands[1], "-") == 0 && (call.json || isatty(STDOUT_FILENO))) {
                fprintf(stderr,
                        call.json ? "fsyncfs: standard output takes the tar stream: --json is for folders\n"
                                  : "fsyncfs: a tar stream is not for a terminal\n");
                mount_options_release(&call.mount);
                return EXIT_USAGE;
        }
        if (!remote_call_open(&call, true, true, &x.remote, &top, &code))
                return code;
        r = export(&x, &call, &top);
        code = r < 0 ? remote_exit_code(r) : x.failed > 0 ? 1 : 0;
        return remote_call_end(x.remote, r, r == -ENOENT || r == -EACCES ? 1 : code);
}
