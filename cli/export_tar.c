#include "cli/export_private.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <string.h>

#include "base/clock.h"

#define MODE_KEPT 01777u

struct tar_target {
        struct export_target target; /* first */
        struct archive *archive;     /* owned */
        struct archive_entry *file;  /* owned: begun, and its header not written yet; NULL: none */
        bool written;                /* of the present file */
};

/* ERROR of libarchive's: the errno behind it, if there is one. */
static int check(const struct tar_target *t, int result)
{
        int number = archive_errno(t->archive);

        if (result >= ARCHIVE_WARN) /* a name that is not UTF-8 goes as its bytes, with a warning */
                return 0;
        return number > 0 ? -number : -EIO;
}

/* Before 1970 to the second: libarchive has no right way to write a fraction there. */
static void set_mtime(struct archive_entry *e, int64_t mtime_ns)
{
        struct timespec when = clock_timespec(mtime_ns);

        archive_entry_set_mtime(e, when.tv_sec, mtime_ns < 0 ? 0 : when.tv_nsec);
}

static struct archive_entry *make_entry(const struct export_item *item, mode_t type)
{
        struct archive_entry *e = archive_entry_new();
        char *folder = NULL;

        if (!e)
                return NULL;
        /* As tar does: what was exported without a name is ".", and a folder's name ends with a slash. */
        if (type == AE_IFDIR && item->path[0] && asprintf(&folder, "%s/", item->path) < 0)
                folder = NULL;
        archive_entry_copy_pathname(e, folder ?: item->path[0] ? item->path : "./");
        free(folder);
        archive_entry_set_filetype(e, type);
        archive_entry_set_perm(e, item->entry->mode & MODE_KEPT);
        set_mtime(e, item->entry->mtime_ns);
        archive_entry_set_size(e, type == AE_IFREG ? (int64_t)item->entry->size : 0);
        if (item->link)
                archive_entry_copy_symlink(e, item->link);
        return e;
}

static int put_header(struct tar_target *t, struct archive_entry *e)
{
        int r = e ? check(t, archive_write_header(t->archive, e)) : -ENOMEM;

        archive_entry_free(e);
        return r;
}

static int tar_enter(struct export_target *target, const struct export_item *item, struct failure *failure)
{
        return put_header((struct tar_target *)target, make_entry(item, AE_IFDIR));
}

static int tar_leave(struct export_target *target, const struct export_item *item, struct failure *failure)
{
        return 0;
}

static int tar_symlink(struct export_target *target, const struct export_item *item, struct failure *failure)
{
        return put_header((struct tar_target *)target, make_entry(item, AE_IFLNK));
}

/* The header waits for the first byte: until then the file may turn out to be another one. */
static int tar_begin(struct export_target *target, const struct export_item *item, struct failure *failure)
{
        struct tar_target *t = (struct tar_target *)target;

        t->file = make_entry(item, AE_IFREG);
        t->written = false;
        return t->file ? 0 : -ENOMEM;
}

static int tar_data(struct export_target *target, const void *data, size_t len)
{
        struct tar_target *t = (struct tar_target *)target;
        int r = t->file ? put_header(t, TAKE_PTR(t->file)) : 0;
        la_ssize_t n = 0;

        t->written = true;
        if (r == 0 && len > 0)
                n = archive_write_data(t->archive, data, len);
        return r == 0 && n < 0 ? check(t, (int)n) : r;
}

static int tar_restart(struct export_target *target)
{
        struct tar_target *t = (struct tar_target *)target;

        archive_entry_free(TAKE_PTR(t->file));
        return t->written ? -ESPIPE : 0;
}

static int tar_end(struct export_target *target, struct failure *failure)
{
        return tar_data(target, NULL, 0);
}

/* What is not whole gets no end, so that who unpacks it sees that. */
static int tar_finish(struct export_target *target, bool ok)
{
        struct tar_target *t = (struct tar_target *)target;
        int r = 0;

        if (ok)
                r = check(t, archive_write_close(t->archive));
        else
                archive_write_fail(t->archive);
        archive_entry_free(t->file);
        archive_write_free(t->archive);
        free(t);
        return r;
}

int export_tar_new(int fd, struct export_target **ret)
{
        struct tar_target *t = calloc(1, sizeof(*t));

        setlocale(LC_CTYPE, "C.UTF-8"); /* so that names in UTF-8 go as that; others go as their bytes */
        if (t)
                t->archive = archive_write_new();
        if (!t || !t->archive || archive_write_set_format_pax(t->archive) != ARCHIVE_OK ||
            archive_write_open_fd(t->archive, fd) != ARCHIVE_OK) {
                if (t)
                        archive_write_free(t->archive);
                free(t);
                return -ENOMEM;
        }
        t->target = (struct export_target){
                .enter = tar_enter,
                .leave = tar_leave,
                .symlink = tar_symlink,
                .begin = tar_begin,
                .data = tar_data,
                .restart = tar_restart,
                .end = tar_end,
                .finish = tar_finish,
        };
        *ret = &t->target;
        return 0;
}
