#include "fs/filesystem.h"

#include <string.h>
#include <sys/xattr.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/bindings.h"
#include "fs/channel.h"
#include "fs/kernel_abi.h"
#include "fs/passthrough.h"
#include "fs/status.h"
#include "fs/waiting.h"
#include "sync/readahead.h"

/*
 * The answers from the catalog. Nothing here waits for the network (promise 2), but for folders of a first version that is still on its
 * way (fs/waiting.h); contents are in fs/read.c.
 *
 * Everything is valid "for ever": the notifier takes back what a new version changes. OPENDIR, and unless large files are
 * given to the kernel (fs/passthrough.h) OPEN, are answered ENOSYS once: from then on the kernel opens files and folders without
 * asking, keeps their pages and caches listings, so that a warm tree costs no daemon work. That is possible because an inode number
 * names one content for good: no open needs any state.
 */
#define FOREVER_SEC (10.0 * 365 * 86400)

#define XATTR_HASH    "user.fsyncfs.hash"
#define XATTR_CACHED  "user.fsyncfs.cached"
#define XATTR_VERSION "user.fsyncfs.version"

/* Listing positions of the two names that the catalog does not hold; its own never end in the root's number.
 */
#define COOKIE_SELF   ((off_t)1)
#define COOKIE_PARENT ((off_t)1 << 43 | 1)

#define LIST_REPLY_MAX ((size_t)1 << 20)

static struct filesystem *get_fs(fuse_req_t req)
{
        return fuse_req_userdata(req);
}

int filesystem_reply_error(int result)
{
        return result == CATALOG_NONE ? ENOENT : result == -EBADMSG ? EIO : -result;
}

void filesystem_stat(const struct filesystem *fs, const struct catalog_entry *entry, struct stat *ret)
{
        struct timespec mtime = clock_timespec(entry->mtime_ns);
        mode_t masked = entry->kind == ENTRY_SYMLINK ? 0777 : entry->mode & ~fs->options.umask;

        *ret = (struct stat){
                .st_ino = entry->ino,
                .st_mode = entry_st_mode(entry->kind, masked),
                .st_nlink = entry->nlink,
                .st_uid = fs->options.uid,
                .st_gid = fs->options.gid,
                .st_size = (off_t)entry->size,
                .st_blksize = 4096,
                .st_blocks = (blkcnt_t)((entry->size + 511) / 512),
                .st_atim = mtime,
                .st_mtim = mtime,
                .st_ctim = mtime,
        };
}

static void fill_param(const struct filesystem *fs, const struct catalog_entry *entry,
                       struct fuse_entry_param *ret)
{
        *ret = (struct fuse_entry_param){ .ino = entry->ino,
                                          .attr_timeout = FOREVER_SEC,
                                          .entry_timeout = FOREVER_SEC };
        filesystem_stat(fs, entry, &ret->attr);
}

/* Replies: entry (with node 0 for "is not there", which the kernel caches as well), error. */
static void lookup(struct filesystem *fs, const struct waiting_request *request)
{
        const char *name = request->name;
        struct fuse_entry_param param = { .entry_timeout = FOREVER_SEC };
        struct catalog_entry entry;
        size_t len = strlen(name);
        int r = len > PATH_NAME_MAX ? -ENAMETOOLONG
                                    : catalog_lookup(fs->catalog, request->folder, name, len, &entry);

        if (r == CATALOG_PENDING) {
                waiting_park(fs, request, lookup);
                return;
        }
        if (r == CATALOG_OK)
                fill_param(fs, &entry, &param);
        if (r < 0)
                fuse_reply_err(request->req, filesystem_reply_error(r));
        else
                fuse_reply_entry(request->req, &param);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
        lookup(get_fs(req), &(struct waiting_request){ .req = req, .folder = parent, .name = name });
}

/* Replies: attr, error. A number from before the mount's last version is answered as it was: its file may
 * still be open. */
static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
        struct filesystem *fs = get_fs(req);
        struct catalog_entry entry;
        struct stat st;
        int r = catalog_get(fs->catalog, bindings_get(fs->bindings, ino), &entry);

        if (r != CATALOG_OK) {
                fuse_reply_err(req, r == CATALOG_NONE ? ESTALE : filesystem_reply_error(r));
                return;
        }
        entry.ino = ino;
        filesystem_stat(fs, &entry, &st);
        fuse_reply_attr(req, &st, FOREVER_SEC);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
        _cleanup_buffer_ struct buffer target = { 0 };
        int r = catalog_readlink(get_fs(req)->catalog, ino, &target);

        if (r == CATALOG_OK)
                fuse_reply_readlink(req, target.data);
        else
                fuse_reply_err(req, r == CATALOG_NONE ? EINVAL : filesystem_reply_error(r));
}

/* ---- listings ---- */

struct listing_reply {
        struct filesystem *fs;
        fuse_req_t req;
        char *data; /* owned by op_list */
        size_t size, used;
        bool plus; /* READDIRPLUS: attributes go with the names */
};

/* 0, or 1 if the reply is full. */
static int add_name(struct listing_reply *reply, const char *name, const struct fuse_entry_param *param,
                    off_t cookie)
{
        char *at = reply->data + reply->used;
        size_t left = reply->size - reply->used, n;

        n = reply->plus ? fuse_add_direntry_plus(reply->req, at, left, name, param, cookie)
                        : fuse_add_direntry(reply->req, at, left, name, &param->attr, cookie);
        if (n > left)
                return 1;
        reply->used += n;
        return 0;
}

static int add_entry(const struct catalog_entry *entry, uint64_t cookie, bool current, void *arg)
{
        struct listing_reply *reply = arg;
        struct fuse_entry_param param;

        fill_param(reply->fs, entry, &param);
        /* A listing that began in an older version goes on in it, but the kernel must not learn old entries
         * from it: node 0 makes this a name and nothing more. */
        if (!current)
                param.ino = 0;
        return add_name(reply, entry->name, &param, (off_t)cookie);
}

/* "." and "..", as every file system lists them. */
static int add_dots(struct listing_reply *reply, fuse_ino_t ino, off_t *offset)
{
        struct fuse_entry_param param = { .attr = { .st_ino = ino, .st_mode = S_IFDIR } };
        struct catalog_entry entry;

        if (*offset == 0) {
                if (add_name(reply, ".", &param, COOKIE_SELF))
                        return 1;
                *offset = COOKIE_SELF;
        }
        if (*offset == COOKIE_SELF) {
                if (catalog_get(reply->fs->catalog, ino, &entry) == CATALOG_OK && entry.parent != 0)
                        param.attr.st_ino = entry.parent;
                if (add_name(reply, "..", &param, COOKIE_PARENT))
                        return 1;
                *offset = COOKIE_PARENT;
        }
        if (*offset == COOKIE_PARENT)
                *offset = 0;
        return 0;
}

static void list(struct filesystem *fs, const struct waiting_request *request)
{
        struct listing_reply reply = { .fs = fs,
                                       .req = request->req,
                                       .size = MIN(request->size, LIST_REPLY_MAX),
                                       .plus = request->plus };
        _cleanup_free_ char *data = malloc(reply.size);
        off_t offset = request->offset;
        int r = 0;

        if (!data) {
                fuse_reply_err(request->req, ENOMEM);
                return;
        }
        reply.data = data;
        if (!add_dots(&reply, request->folder, &offset))
                r = catalog_list(fs->catalog, request->folder, (uint64_t)offset, add_entry, &reply);
        if (r == CATALOG_PENDING)
                waiting_park(fs, request, list);
        else if (r < 0)
                fuse_reply_err(request->req, filesystem_reply_error(r));
        else
                fuse_reply_buf(request->req, data, reply.used);
        if (r == 0 && request->plus && fs->readahead)
                readahead_note_listed(fs->readahead, request->folder);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file)
{
        list(get_fs(req),
             &(struct waiting_request){ .req = req, .folder = ino, .size = size, .offset = offset });
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                           struct fuse_file_info *file)
{
        list(get_fs(req), &(struct waiting_request){
                                  .req = req, .folder = ino, .size = size, .offset = offset, .plus = true });
}

/* ---- without state ---- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
        fuse_reply_err(req, ENOSYS);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
        struct catalog_version version;
        struct statvfs st = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255 };

        catalog_get_version(get_fs(req)->catalog, &version);
        st.f_blocks = (version.bytes + 4095) / 4096;
        st.f_files = version.files + version.directories + version.symlinks;
        fuse_reply_statfs(req, &st);
}

/* ---- extended attributes ---- */

static int xattr_value(struct filesystem *fs, const struct catalog_entry *entry, const char *name,
                       struct buffer *ret)
{
        char text[HASH_TEXT_MAX], hex[2 * HASH_BYTES + 1];
        struct catalog_version version;

        if (strcmp(name, XATTR_HASH) == 0 && entry->kind == ENTRY_FILE &&
            entry->content.algorithm != HASH_NONE)
                return buffer_printf(ret, "%s", content_id_format(&entry->content, text));
        if (strcmp(name, XATTR_CACHED) == 0 && entry->kind == ENTRY_FILE)
                return buffer_printf(ret, "%u", status_cached_percent(fs, entry));
        if (strcmp(name, XATTR_VERSION) == 0 && entry->ino == CATALOG_ROOT_INO) {
                catalog_get_version(fs->catalog, &version);
                hex_encode(version.digest, hash_len(version.hash), hex);
                return buffer_printf(ret, "%s", hex);
        }
        return -ENODATA;
}

static void reply_sized(fuse_req_t req, const struct buffer *value, size_t size)
{
        if (size == 0)
                fuse_reply_xattr(req, value->len);
        else if (size < value->len)
                fuse_reply_err(req, ERANGE);
        else
                fuse_reply_buf(req, value->data, value->len);
}

/* ENOSYS is remembered: without the option the kernel asks once and never again. */
static int xattr_entry(fuse_req_t req, fuse_ino_t ino, struct catalog_entry *ret)
{
        int r;

        if (!get_fs(req)->options.xattr)
                return -ENOSYS;
        r = catalog_get(get_fs(req)->catalog, bindings_get(get_fs(req)->bindings, ino), ret);
        return r == CATALOG_NONE ? -ESTALE : r;
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
        _cleanup_buffer_ struct buffer value = { 0 };
        struct catalog_entry entry;
        int r = xattr_entry(req, ino, &entry);

        if (r == 0)
                r = xattr_value(get_fs(req), &entry, name, &value);
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                reply_sized(req, &value, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
        static const char *const names[] = { XATTR_HASH, XATTR_CACHED, XATTR_VERSION };
        _cleanup_buffer_ struct buffer found = { 0 };
        struct catalog_entry entry;
        int r = xattr_entry(req, ino, &entry);

        for (size_t i = 0; i < ARRAY_SIZE(names) && r == 0; i++) {
                _cleanup_buffer_ struct buffer value = { 0 };
                r = xattr_value(get_fs(req), &entry, names[i], &value);
                if (r == 0)
                        r = buffer_append(&found, names[i], strlen(names[i]) + 1);
                else if (r == -ENODATA)
                        r = 0;
        }
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                reply_sized(req, &found, size);
}

/* ---- the connection ---- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
        struct filesystem *fs = userdata;
        uint64_t more;

        /* Attributes with every listing, not only when the kernel guesses that they are wanted: one request
         * where fts(3) would cause thousands (docs/performance.md). */
        conn->want |=
                conn->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_PARALLEL_DIROPS |
                                 FUSE_CAP_ASYNC_READ | FUSE_CAP_EXPLICIT_INVAL_DATA);
        conn->want &=
                ~(unsigned)(FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC);
        conn->max_write = 1u << 20; /* sets the largest read as well */
        conn->time_gran = 1;
        /* A read that waits for the master holds no thread here, but the kernel counts it, and beyond this many holds back those whose
         * content is in the store. */
        conn->max_background = 4096;
        conn->congestion_threshold = 3072;
        /* libfuse (3.14 at least) forgets to say that look-ups need not take turns. Those that wait for a folder of a first version would hold up all
         * others in it, beyond any signal. */
        more = FUSE_PARALLEL_DIROPS | FUSE_REQUEST_TIMEOUT;
        fs->no_passthrough = passthrough_unwanted(fs);
        if (!fs->no_passthrough)
                more |= FUSE_PASSTHROUGH;
        channel_extend(fs->channel, more, fs->no_passthrough ? 0 : 1);
}

const struct fuse_lowlevel_ops filesystem_operations = {
        .init = op_init,
        .lookup = op_lookup,
        .getattr = op_getattr,
        .readlink = op_readlink,
        .open = filesystem_open,
        .release = filesystem_release,
        .opendir = op_opendir,
        .read = filesystem_read,
        .readdir = op_readdir,
        .readdirplus = op_readdirplus,
        .statfs = op_statfs,
        .getxattr = op_getxattr,
        .listxattr = op_listxattr,
};
