#include "server/fetch_file.h"

#include <string.h>

#include <utlist.h>

#include "server/content.h"

static void file_free(struct fetch_file *file)
{
        if (file->fd >= 0)
                close(file->fd);
        free(file->path);
        free(file);
}

static void file_drop(struct fetch_files *files, struct fetch_file *file)
{
        DL_DELETE(files->list, file);
        files->count--;
        file_free(file);
}

void fetch_files_release(struct fetch_files *files)
{
        while (files->list)
                file_drop(files, files->list);
}

/* ---- hashing ---- */

static void hash_run(struct pool_job *job)
{
        struct fetch_file *file = (struct fetch_file *)((char *)job - offsetof(struct fetch_file, job));
        struct fetch_files *files = file->files;

        file->error = file_hash(file->fd, HASH_XXH3, files->master->pool, &file->hashed);
        atomic_store(&file->answered, true);
        files->let_go(files);
}

static void begin_hashing(struct fetch_files *files, struct fetch_file *file)
{
        file->hashing = true;
        file->job.run = hash_run;
        files->hold(files);
        pool_submit(files->master->pool, &file->job);
}

/* True if FILE's content is known, or cannot be. */
static bool is_settled(struct fetch_file *file)
{
        if (!file->hashing)
                return true;
        if (!atomic_load(&file->answered))
                return false;
        file->hashing = false;
        if (file->error >= 0) {
                file->st = file->hashed.st;
                file->id = file->hashed.id;
                file->racy = file->hashed.racy;
        }
        return true;
}

/* What nobody is being sent is closed: a file that is removed must not take up its master's disk for as long as a worker is there. */
void fetch_files_detach(struct fetch_files *files, struct fetch_item *item)
{
        struct fetch_file *file = TAKE_PTR(item->file);

        if (!file || --file->users > 0)
                return;
        if (file->dated)
                file_drop(files, file);
        else if (is_settled(file))
                close(take_fd(&file->fd));
}

/* ---- attaching ---- */

/* Drops the file used longest ago, if there are many. False: all are in use. */
static bool make_room(struct fetch_files *files)
{
        struct fetch_file *file;

        if (files->count < FETCH_FILES_MAX)
                return true;
        DL_FOREACH (files->list, file)
                if (file->users == 0 && is_settled(file)) {
                        file_drop(files, file);
                        return true;
                }
        return false;
}

static struct fetch_file *find(struct fetch_files *files, const char *path)
{
        struct fetch_file *file;

        DL_FOREACH (files->list, file)
                if (!file->dated && strcmp(file->path, path) == 0)
                        return file;
        return NULL;
}

/* Nobody new gets it. */
static void outdate(struct fetch_files *files, struct fetch_file *file)
{
        file->dated = true;
        if (file->users == 0)
                file_drop(files, file);
}

static enum fetch_files_result use(struct fetch_files *files, struct fetch_file *file,
                                   struct fetch_item *item)
{
        item->file = file;
        file->users++;
        DL_DELETE(files->list, file);
        DL_APPEND(files->list, file);
        return FETCH_FILES_OK;
}

/* What becomes of ITEM, whose file it is, once that is settled. A file that holds something else is kept for those who ask for the same. */
static int judge(struct fetch_files *files, struct fetch_item *item, const char **ret_why)
{
        struct fetch_file *file = item->file;
        int error;

        if (!is_settled(file))
                return FETCH_FILES_WAIT;
        error = file->error;
        if (error >= 0 && content_id_equal(&file->id, &item->content))
                return FETCH_FILES_OK;
        fetch_files_detach(files, item);
        if (error < 0 && error != -EAGAIN)
                return error;
        *ret_why = error < 0 ? "the file keeps changing" : "the file holds another content now";
        return FETCH_FILES_STALE;
}

static int file_open(struct fetch_files *files, int folder, const char *path, struct fetch_file **ret)
{
        struct fetch_file *file = calloc(1, sizeof(*file));
        int r;

        if (!file)
                return -ENOMEM;
        file->files = files;
        file->fd = -1;
        file->path = strdup(path);
        r = file->path ? workspace_open_file(folder, path, &file->fd, &file->st) : -ENOMEM;
        if (r < 0) {
                file_free(file);
                return r;
        }
        DL_APPEND(files->list, file);
        files->count++;
        *ret = file;
        return 0;
}

/* What a file held when it was looked at last. */
struct verdict {
        bool known;
        struct stat st;
        struct content_id id;
};

/* A content that was hashed within a tick of the clock may have changed since: good for those who had it hashed, nobody else. */
static struct verdict verdict_of(const struct fetch_file *file)
{
        return file && file->error >= 0 && !file->racy
                       ? (struct verdict){ .known = true, .st = file->st, .id = file->id }
                       : (struct verdict){ 0 };
}

static bool still_holds(const struct verdict *verdict, const struct stat *st)
{
        struct tree_stamp then = tree_stamp_of(&verdict->st), now = tree_stamp_of(st);

        return verdict->known && tree_stamp_equal(&then, &now);
}

/* Opens what is at the path now. EARLIER: what was known of the file that was there. */
static int attach_new(struct fetch_files *files, int folder, struct fetch_item *item,
                      const struct verdict *earlier, const char **ret_why)
{
        struct fetch_file *file;
        int r;

        if (!make_room(files))
                return FETCH_FILES_WAIT;
        r = file_open(files, folder, item->path, &file);
        if (r < 0)
                return r;
        if ((uint64_t)file->st.st_size != item->size) {
                file_drop(files, file);
                *ret_why = "the file has another size now";
                return FETCH_FILES_STALE;
        }
        /* The tree first: it may have read the file again after a write that left no stamp. */
        if (!content_known(files->master->versions, files->spider, item->path, &file->st, HASH_XXH3,
                           &file->id)) {
                if (still_holds(earlier, &file->st))
                        file->id = earlier->id;
                else
                        begin_hashing(files, file);
        }
        use(files, file, item);
        return judge(files, item, ret_why);
}

int fetch_files_attach(struct fetch_files *files, int folder, struct fetch_item *item, const char **ret_why)
{
        struct verdict verdict;
        struct fetch_file *file;

        if (item->file)
                return judge(files, item, ret_why);
        file = find(files, item->path);
        if (file && !is_settled(file))
                return FETCH_FILES_WAIT;
        verdict = verdict_of(file);
        if (verdict.known && file->fd >= 0 && content_id_equal(&verdict.id, &item->content) &&
            content_unchanged(file->fd, &file->st))
                return use(files, file, item);
        if (file)
                outdate(files, file);
        return attach_new(files, folder, item, &verdict, ret_why);
}
