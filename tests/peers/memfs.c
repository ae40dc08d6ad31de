/*
 * memfs ROOT MOUNTPOINT: the tree below ROOT as a FUSE file system out of memory, names and attributes only. What libfuse
 * itself costs: the peer that the file system of a mount is measured against. In the foreground until it is unmounted; prints
 * "mounted" when it answers. The kernel is asked to keep everything, as fsyncfs asks it.
 */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOREVER_SEC 1e9
#define MAX_THREADS 8
#define REPLY_MAX   (1u << 20)

/* A folder's children are neighbours in the table, in the order of their names; a node's inode number is its place, from 1. */
struct node {
        char *name;
        uint32_t parent, first_child, n_children;
        uint32_t mode;
        uint64_t size;
        struct timespec mtime;
};

static struct node *nodes;
static size_t n_nodes, n_room;

/* ---- the tree ---- */

static void *need(void *memory)
{
        if (!memory)
                err(1, "malloc");
        return memory;
}

static void add_node(uint32_t parent, const char *name, const struct stat *st)
{
        if (n_nodes == n_room) {
                n_room = n_room ? 2 * n_room : 1024;
                nodes = need(realloc(nodes, n_room * sizeof(*nodes)));
        }
        nodes[n_nodes++] = (struct node){ .name = need(strdup(name)),
                                          .parent = parent,
                                          .mode = st->st_mode,
                                          .size = S_ISDIR(st->st_mode) ? 0 : (uint64_t)st->st_size,
                                          .mtime = st->st_mtim };
}

static int by_name(const void *a, const void *b)
{
        return strcmp(((const struct node *)a)->name, ((const struct node *)b)->name);
}

static void add_children(uint32_t folder, int fd)
{
        size_t first = n_nodes;
        DIR *dir = need(fdopendir(dup(fd)));
        struct dirent *d;
        struct stat st;

        while ((d = readdir(dir))) {
                if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
                        continue;
                if (fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        err(1, "%s", d->d_name);
                add_node(folder, d->d_name, &st);
        }
        closedir(dir);
        qsort(nodes + first, n_nodes - first, sizeof(*nodes), by_name);
        nodes[folder].first_child = (uint32_t)first;
        nodes[folder].n_children = (uint32_t)(n_nodes - first);
}

/* Takes FD. */
static void load_folder(uint32_t folder, int fd)
{
        add_children(folder, fd);
        for (uint32_t i = 0; i < nodes[folder].n_children; i++) {
                uint32_t child = nodes[folder].first_child + i;
                int below;

                if (!S_ISDIR(nodes[child].mode))
                        continue;
                below = openat(fd, nodes[child].name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (below < 0)
                        err(1, "%s", nodes[child].name);
                load_folder(child, below);
        }
        close(fd);
}

static void load(const char *root)
{
        int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                err(1, "%s", root);
        add_node(0, "", &st);
        load_folder(0, fd);
}

/* ---- the operations ---- */

static struct node *get_node(fuse_ino_t ino)
{
        return ino >= 1 && ino <= n_nodes ? &nodes[ino - 1] : NULL;
}

static void fill_param(const struct node *node, struct fuse_entry_param *ret)
{
        *ret = (struct fuse_entry_param){ .ino = (fuse_ino_t)(node - nodes) + 1,
                                          .attr_timeout = FOREVER_SEC,
                                          .entry_timeout = FOREVER_SEC };
        ret->attr.st_ino = ret->ino;
        ret->attr.st_mode = node->mode;
        ret->attr.st_nlink = 1;
        ret->attr.st_size = (off_t)node->size;
        ret->attr.st_blocks = (blkcnt_t)((node->size + 511) / 512);
        ret->attr.st_mtim = node->mtime;
        ret->attr.st_ctim = node->mtime;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
        conn->want |= conn->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_CACHE_SYMLINKS |
                                       FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_EXPLICIT_INVAL_DATA);
        conn->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_AUTO_INVAL_DATA);
        puts("mounted");
        fflush(stdout);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
        struct fuse_entry_param param = { .entry_timeout = FOREVER_SEC };
        struct node *folder = get_node(parent), *found = NULL;

        if (folder)
                found = bsearch(&(struct node){ .name = (char *)name }, nodes + folder->first_child,
                                folder->n_children, sizeof(*nodes), by_name);
        if (found)
                fill_param(found, &param);
        fuse_reply_entry(req, &param); /* number 0: there is none, which may be kept */
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
        struct fuse_entry_param param;
        struct node *node = get_node(ino);

        if (!node) {
                fuse_reply_err(req, ESTALE);
                return;
        }
        fill_param(node, &param);
        fuse_reply_attr(req, &param.attr, FOREVER_SEC);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
        fuse_reply_err(req, ENOSYS); /* the kernel need not ask again, and may keep listings */
}

/* "." and ".." are at 0 and 1. */
static const char *entry_at(const struct node *folder, off_t at, struct fuse_entry_param *ret)
{
        if (at < 2) {
                fill_param(at == 0 ? folder : &nodes[folder->parent], ret);
                ret->ino = 0;
                return at == 0 ? "." : "..";
        }
        if (at - 2 >= (off_t)folder->n_children)
                return NULL;
        fill_param(&nodes[folder->first_child + at - 2], ret);
        return nodes[folder->first_child + at - 2].name;
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, bool plus)
{
        struct fuse_entry_param param;
        struct node *folder = get_node(ino);
        size_t used = 0, n, room = size < REPLY_MAX ? size : REPLY_MAX;
        char *data = malloc(room);
        const char *name;

        if (!folder || !data) {
                fuse_reply_err(req, folder ? ENOMEM : ESTALE);
                free(data);
                return;
        }
        for (; (name = entry_at(folder, at, &param)); at++) {
                n = plus ? fuse_add_direntry_plus(req, data + used, room - used, name, &param, at + 1)
                         : fuse_add_direntry(req, data + used, room - used, name, &param.attr, at + 1);
                if (n > room - used)
                        break;
                used += n;
        }
        fuse_reply_buf(req, data, used);
        free(data);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file)
{
        list(req, ino, size, offset, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                           struct fuse_file_info *file)
{
        list(req, ino, size, offset, true);
}

static const struct fuse_lowlevel_ops operations = {
        .init = op_init,
        .lookup = op_lookup,
        .getattr = op_getattr,
        .opendir = op_opendir,
        .readdir = op_readdir,
        .readdirplus = op_readdirplus,
};

static int serve(struct fuse_session *session)
{
        struct fuse_loop_config *config = need(fuse_loop_cfg_create());
        int r;

        fuse_loop_cfg_set_clone_fd(config, 1);
        fuse_loop_cfg_set_max_threads(config, MAX_THREADS);
        if (fuse_set_signal_handlers(session) != 0)
                return 1;
        r = fuse_session_loop_mt(session, config);
        fuse_remove_signal_handlers(session);
        fuse_loop_cfg_destroy(config);
        return r;
}

int main(int argc, char **argv)
{
        char options[] = "-oro,default_permissions,fsname=memfs,subtype=memfs";
        char *words[] = { argv[0], options };
        struct fuse_args args = FUSE_ARGS_INIT(2, words);
        struct fuse_session *session;
        int r;

        if (argc != 3)
                errx(2, "usage: memfs ROOT MOUNTPOINT");
        load(argv[1]);
        session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
        if (!session || fuse_session_mount(session, argv[2]) != 0)
                errx(1, "%s: cannot be mounted", argv[2]);
        r = serve(session);
        fuse_session_unmount(session);
        fuse_session_destroy(session);
        return r < 0 ? 1 : 0;
}
