#include "server/fetch_file.h"

#include <string.h>

#include <utlist.h>

#include "base/pieces.h"
#include "server/content.h"

#define LISTS_MAX ((size_t)16 << 20) /* bytes of one call's lists of files that nobody is being sent */

/* ---- what is charged for them ---- */

static void close_file(struct fetch_file *file)
{
        if (file->fd < 0)
                return;
        close(take_fd(&file->fd));
        rpc_peer_discharge(file->files->peer, RPC_FILES, 1);
}

static void discharge(struct fetch_file *file, enum rpc_scarce what, size_t *bytes)
{
        rpc_peer_discharge(file->files->peer, what, *bytes);
        *bytes = 0;
}

/* FILE has no users any more: its list is kept if there is room for it. */
static void spare_list(struct fetch_file *file)
{
        discharge(file, RPC_LISTS, &file->list_bytes);
        if (rpc_peer_charge(file->files->peer, RPC_SPARE_LISTS, file->list.len))
                file->spare_bytes = file->list.len;
        else
                buffer_release(&file->list);
}

/* ---- life ---- */

static struct buffer take_list(struct buffer *list)
{
        struct buffer taken = *list;

        *list = (struct buffer){ 0 };
        return taken;
}

static void file_free(struct fetch_file *file)
{
        close_file(file);
        discharge(file, RPC_LISTS, &file->list_bytes);
        discharge(file, RPC_SPARE_LISTS, &file->spare_bytes);
        buffer_release(&file->list);
        buffer_release(&file->found_list);
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

static bool is_unwanted(void *arg)
{
        struct fetch_file *file = arg;

        return atomic_load(&file->phase) == FETCH_FILE_UNWANTED || atomic_load(&file->files->closed);
}

/* A list is hashed for because the tree had lost it. What cannot be kept is made again. */
static void keep_list(const struct fetch_file *file)
{
        const struct fetch_files *files = file->files;

        if (file->error == 0 && file->found_list.len > 0)
                (void)versions_store_list(files->master->versions, files->spider, &file->found.id,
                                          (const uint8_t *)file->found_list.data, file->found_list.len);
}

static void hash_run(struct pool_job *job)
{
        struct fetch_file *file = (struct fetch_file *)((char *)job - offsetof(struct fetch_file, job.job));
        struct fetch_files *files = file->files;
        const struct file_hash_asker asker = { .pool = files->master->pool,
                                               .unwanted = is_unwanted,
                                               .arg = file };
        int phase = FETCH_FILE_HASHING;

        file->error = file_hash(file->fd, file->base, &asker, &file->found, &file->found_list);
        keep_list(file);
        turns_end(files->master->hashings, &file->job);
        if (!atomic_compare_exchange_strong(&file->phase, &phase, FETCH_FILE_HASHED)) {
                close_file(file);
                buffer_release(&file->found_list);
                discharge(file, RPC_LISTS, &file->list_bytes);
                file->error = -ECANCELED;
                atomic_store(&file->phase, FETCH_FILE_HASHED);
        }
        files->let_go(files);
}

static void begin_hashing(struct fetch_files *files, struct fetch_file *file)
{
        file->base = hash_base(file->id.algorithm);
        file->hashing = true;
        file->job.job.run = hash_run;
        files->hold(files);
        turns_submit(files->master->hashings, &file->job, files->peer);
}

/* True if no job has FILE in hand. */
static bool is_settled(struct fetch_file *file)
{
        if (!file->hashing)
                return true;
        if (atomic_load(&file->phase) != FETCH_FILE_HASHED)
                return false;
        file->hashing = false;
        if (file->error >= 0) {
                file->hashed = true;
                file->st = file->found.st;
                file->id = file->found.id;
                file->racy = file->found.racy;
                file->trusted = !file->racy;
                file->list = take_list(&file->found_list);
        }
        return true;
}

/* FILE, which waited to be hashed, is not. False: its job has begun, or is about to. */
static bool withdraw(struct fetch_file *file)
{
        struct fetch_files *files = file->files;

        if (!turns_withdraw(files->master->hashings, &file->job))
                return false;
        file->error = -ECANCELED;
        atomic_store(&file->phase, FETCH_FILE_HASHED);
        files->let_go(files);
        return true;
}

/* Leaves FILE, which is being hashed, to its job. False: there is none, or it has ended meanwhile. */
static bool leave_to_job(struct fetch_file *file)
{
        int phase = FETCH_FILE_HASHING;

        return !withdraw(file) && atomic_compare_exchange_strong(&file->phase, &phase, FETCH_FILE_UNWANTED);
}

void fetch_files_withdraw(struct fetch_files *files)
{
        struct fetch_file *file;

        DL_FOREACH (files->list, file)
                if (file->hashing)
                        (void)withdraw(file);
}

/* ---- letting go ---- */

/* Lists are kept for the next want of the same file, but not any number of bytes. */
static void trim_lists(struct fetch_files *files)
{
        struct fetch_file *file;
        size_t total = 0;

        DL_FOREACH (files->list, file)
                total += file->users == 0 ? file->list.len : 0;
        DL_FOREACH (files->list, file) {
                if (total <= LISTS_MAX)
                        return;
                if (file->users > 0)
                        continue;
                total -= file->list.len;
                discharge(file, RPC_SPARE_LISTS, &file->spare_bytes);
                buffer_release(&file->list);
        }
}

/* What nobody is being sent is closed: a file that is removed must not take up its master's disk for as long as a worker is there. */
void fetch_files_detach(struct fetch_files *files, struct fetch_item *item)
{
        struct fetch_file *file = TAKE_PTR(item->file);

        if (!file || --file->users > 0)
                return;
        if (!is_settled(file)) {
                if (leave_to_job(file))
                        return;
                (void)is_settled(file);
        }
        if (file->dated) {
                file_drop(files, file);
                return;
        }
        close_file(file);
        spare_list(file);
        trim_lists(files);
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

/* The descriptor is charged already, and given back if this fails. */
static int file_open(struct fetch_files *files, int folder, const char *path, struct fetch_file **ret)
{
        struct fetch_file *file = calloc(1, sizeof(*file));
        int r;

        if (!file) {
                rpc_peer_discharge(files->peer, RPC_FILES, 1);
                return -ENOMEM;
        }
        file->files = files;
        file->fd = -1;
        file->path = strdup(path);
        r = file->path ? workspace_open_file(folder, path, &file->fd, &file->st) : -ENOMEM;
        if (r < 0) {
                rpc_peer_discharge(files->peer, RPC_FILES, 1);
                file_free(file);
                return r;
        }
        DL_APPEND(files->list, file);
        files->count++;
        *ret = file;
        return 0;
}

/* What is left of a file that is opened anew. */
struct verdict {
        struct content_id id;
        struct buffer list; /* of ID; owned */
        bool hashed;        /* and under ST it held ID */
        struct stat st;
};

/* A content that was hashed within a tick of the clock may have changed since: good for those who had it hashed, nobody else. */
static struct verdict verdict_of(struct fetch_file *file)
{
        struct verdict verdict = { .id = file->id, .hashed = file->hashed && !file->racy, .st = file->st };

        if (file->users == 0) {
                discharge(file, RPC_SPARE_LISTS, &file->spare_bytes);
                verdict.list = take_list(&file->list);
        }
        return verdict;
}

static bool still_holds(const struct verdict *verdict, const struct stat *st)
{
        struct tree_stamp then = tree_stamp_of(&verdict->st), now = tree_stamp_of(st);

        return verdict->hashed && tree_stamp_equal(&then, &now);
}

/* Has FILE's `list` of what ITEM wants, from the tree if need be, or `id` say what it holds instead. 0: neither is known. */
static int find_list(struct fetch_files *files, struct fetch_file *file, const struct fetch_item *item,
                     struct verdict *earlier)
{
        bool same = still_holds(earlier, &file->st) &&
                    hash_base(earlier->id.algorithm) == hash_base(item->content.algorithm);
        bool wanted = content_id_equal(&earlier->id, &item->content);
        int r = TREE_OK;

        file->id = item->content;
        file->hashed = same && wanted;
        if (wanted && earlier->list.len > 0)
                file->list = take_list(&earlier->list);
        else
                r = versions_find_list(files->master->versions, files->spider, &item->content, item->size,
                                       &file->list);
        if (r != TREE_NONE)
                return r == TREE_OK;
        if (same && !wanted)
                file->id = earlier->id;
        else if (same || !content_known_other(files->master->versions, files->spider, file->path, &file->st,
                                              &item->content, &file->id))
                return 0;
        file->hashed = true;
        return 1;
}

/* True if FILE was found to hold its `id` under its stamp: by a job, or by the last pass. */
static bool is_trusted(const struct fetch_files *files, const struct fetch_file *file)
{
        struct content_id known;

        if (file->hashed)
                return true;
        return content_known(files->master->versions, files->spider, file->path, &file->st,
                             file->id.algorithm, &known) &&
               content_id_equal(&known, &file->id);
}

/* False: all that there may be is in use, maybe by other calls, who do not tell when they are done. */
static bool charge(struct fetch_files *files, enum rpc_scarce what, size_t amount)
{
        bool may = rpc_peer_charge(files->peer, what, amount);

        files->short_of = files->short_of || !may;
        return may;
}

/* Opens what is at the path now. EARLIER: what was known of the file that was there. */
static int attach_new(struct fetch_files *files, int folder, struct fetch_item *item, struct verdict *earlier,
                      const char **ret_why)
{
        const size_t list_bytes = pieces_count(item->size) * HASH_BYTES;
        struct fetch_file *file;
        int r;

        if (!make_room(files))
                return FETCH_FILES_WAIT;
        if (!charge(files, RPC_FILES, 1))
                return FETCH_FILES_WAIT;
        r = file_open(files, folder, item->path, &file);
        if (r < 0)
                return r;
        if ((uint64_t)file->st.st_size != item->size) {
                file_drop(files, file);
                *ret_why = "the file has another size now";
                return FETCH_FILES_STALE;
        }
        if (!charge(files, RPC_LISTS, list_bytes)) {
                file_drop(files, file);
                return FETCH_FILES_WAIT;
        }
        file->list_bytes = list_bytes;
        if (find_list(files, file, item, earlier))
                file->trusted = is_trusted(files, file);
        else
                begin_hashing(files, file);
        use(files, file, item);
        return judge(files, item, ret_why);
}

/* True if ITEM can be sent from FILE as it is. It may have been replaced or written to since: each piece proves itself. */
static bool serves(const struct fetch_file *file, const struct fetch_item *item)
{
        return file->fd >= 0 && file->list.len > 0 && content_id_equal(&file->id, &item->content);
}

int fetch_files_attach(struct fetch_files *files, int folder, struct fetch_item *item, const char **ret_why)
{
        struct verdict verdict = { 0 };
        struct fetch_file *file;
        int r;

        if (item->file)
                return judge(files, item, ret_why);
        file = find(files, item->path);
        if (file && !is_settled(file))
                return FETCH_FILES_WAIT;
        if (file && serves(file, item))
                return use(files, file, item);
        if (file) {
                verdict = verdict_of(file);
                outdate(files, file);
        }
        r = attach_new(files, folder, item, &verdict, ret_why);
        buffer_release(&verdict.list);
        return r;
}
