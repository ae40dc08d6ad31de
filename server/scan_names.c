#include <dirent.h>
#include <string.h>

#include "base/log.h"
#include "server/scan_folder.h"

/* A row whose name the folder's listing does not hold: gone, most likely; to be looked at, as a listing can miss what is renamed meanwhile. */
struct scan_missing {
        struct scan_missing *next;
        struct scan_old old;
        uint8_t name_len;
        char name[]; /* NUL-terminated */
};

/* How a name is noted while the folder is read; the name and a NUL follow. */
struct record {
        uint64_t inode;
        uint8_t type;
        uint8_t name_len;
};

void scan_names_release(struct scan_names *names)
{
        while (names->missing) {
                struct scan_missing *missing = names->missing;
                names->missing = missing->next;
                free(missing);
        }
        free(names->nodes);
        free(names->olds);
        buffer_release(&names->listing);
        *names = (struct scan_names){ 0 };
}

static void set_old(struct scan_old *old, const struct tree_row *row)
{
        *old = (struct scan_old){
                .id = row->id,
                .stamp = row->stamp,
                .mode = row->mode,
                .kind = row->kind,
                .unknown = row->unknown,
                .racy = row->racy,
                .has_md5 = row->has_md5,
                .linked = row->linked,
        };
        memcpy(old->digest, row->digest, HASH_BYTES);
        if (row->has_md5)
                memcpy(old->md5, row->md5, HASH_MD5_BYTES);
}

/* The tree's trouble is not the folder's: the pass fails. */
static int tree_failed(struct scan_folder *f, int error)
{
        scan_fail(f->scan, error);
        return -ECANCELED;
}

/* ---- all names ---- */

static void note_too_long(struct scan_lane *lane, struct scan_folder *f, const char *name)
{
        atomic_fetch_add(&f->scan->left_out, 1);
        log_limited(LOG_LEVEL_WARNING, "scan", "%s: left out, its path is longer than %d bytes: '%s/…%.40s'",
                    f->scan->pass.spider, PATH_BYTES_MAX, scan_path(lane, f, NULL), name);
}

/* Notes one name of the listing; 1 if it is one, 0 if not. */
static int note_name(struct scan_lane *lane, struct scan_folder *f, const struct dirent64 *entry)
{
        size_t len = strlen(entry->d_name);
        struct record record = { .inode = entry->d_ino, .type = entry->d_type };
        struct buffer *listing = &f->names.listing;
        int r;

        if (path_check_name(entry->d_name, len) < 0)
                return 0; /* "." and ".." */
        if (f->path_len + (f->path_len > 0) + len > PATH_BYTES_MAX) {
                note_too_long(lane, f, entry->d_name);
                return 0;
        }
        record.name_len = (uint8_t)len;
        r = buffer_append(listing, &record, sizeof(record));
        if (r >= 0)
                r = buffer_append(listing, entry->d_name, len + 1);
        return r < 0 ? r : 1;
}

/* Reads the folder's listing; the number of names or a negative errno. */
static ssize_t read_listing(struct scan_lane *lane, struct scan_folder *f)
{
        ssize_t count = 0;

        if (!f->parent && lseek(f->fd, 0, SEEK_SET) < 0) /* somebody else opened it */
                return -errno;
        for (;;) {
                ssize_t n = getdents64(f->fd, lane->block, sizeof(lane->block));

                if (n <= 0)
                        return n < 0 ? -errno : count;
                for (ssize_t at = 0; at < n;) {
                        const struct dirent64 *entry = (const struct dirent64 *)(lane->block + at);
                        int r = note_name(lane, f, entry);
                        if (r < 0)
                                return r;
                        count += r;
                        at += entry->d_reclen;
                }
        }
}

static int compare_nodes(const void *a, const void *b)
{
        return strcmp(((const struct scan_node *)a)->name, ((const struct scan_node *)b)->name);
}

static int make_nodes(struct scan_folder *f, size_t count)
{
        struct scan_names *names = &f->names;
        const char *p = names->listing.data;

        names->nodes = calloc(MAX(count, (size_t)1), sizeof(*names->nodes));
        if (!names->nodes)
                return -ENOMEM;
        for (size_t i = 0; i < count; i++) {
                struct record record;
                memcpy(&record, p, sizeof(record));
                p += sizeof(record);
                names->nodes[i] = (struct scan_node){
                        .name = p,
                        .spot = spot_find(f->spot, p, record.name_len),
                        .inode = record.inode,
                        .name_len = record.name_len,
                        .type = record.type,
                };
                p += record.name_len + 1u;
        }
        names->count = count;
        if (!f->base) /* rows are written for less in their order */
                qsort(names->nodes, count, sizeof(*names->nodes), compare_nodes);
        return 0;
}

/*
 * What the listing and the rows have in common is found by a table: in the order of the listing, that is, for many file systems, of their own
 * index, names are looked up for less.
 */
struct merge {
        struct scan_names *names;
        uint32_t *slots; /* owned; numbers of nodes, from 1 */
        size_t mask;
        size_t n_olds, n_missing;
};

/* The slot of NAME, or the free one where it would be. */
static uint32_t *find_slot(const struct merge *m, const char *name, size_t len)
{
        size_t at = hash_xxh3_64(name, len) & m->mask;

        for (; m->slots[at] != 0; at = (at + 1) & m->mask) {
                const struct scan_node *node = &m->names->nodes[m->slots[at] - 1];
                if (node->name_len == len && memcmp(node->name, name, len) == 0)
                        break;
        }
        return &m->slots[at];
}

static int merge_begin(struct merge *m, struct scan_names *names)
{
        size_t n = 16;

        while (n < 2 * names->count)
                n *= 2;
        *m = (struct merge){ .names = names, .mask = n - 1 };
        names->olds = malloc(MAX(names->count, (size_t)1) * sizeof(*names->olds));
        m->slots = calloc(n, sizeof(*m->slots));
        if (!names->olds || !m->slots || names->count >= UINT32_MAX)
                return -ENOMEM;
        for (size_t i = 0; i < names->count; i++)
                *find_slot(m, names->nodes[i].name, names->nodes[i].name_len) = (uint32_t)i + 1;
        return 0;
}

static int note_missing(struct merge *m, const struct tree_row *row)
{
        struct scan_missing *missing = malloc(sizeof(*missing) + row->name_len + 1);

        if (!missing)
                return -ENOMEM;
        set_old(&missing->old, row);
        missing->name_len = (uint8_t)row->name_len;
        memcpy(missing->name, row->name, row->name_len + 1);
        missing->next = m->names->missing;
        m->names->missing = missing;
        m->n_missing++;
        return 0;
}

static int merge_row(const struct tree_row *row, void *arg)
{
        struct merge *m = arg;
        uint32_t number = *find_slot(m, row->name, row->name_len);

        if (number == 0)
                return note_missing(m, row);
        set_old(&m->names->olds[m->n_olds], row);
        m->names->nodes[number - 1].old = &m->names->olds[m->n_olds++];
        return 0;
}

static int add_missing(struct scan_folder *f, size_t n)
{
        struct scan_names *names = &f->names;
        struct scan_node *nodes = reallocarray(names->nodes, names->count + n, sizeof(*nodes));

        if (!nodes)
                return -ENOMEM;
        names->nodes = nodes;
        for (const struct scan_missing *m = names->missing; m; m = m->next)
                nodes[names->count++] = (struct scan_node){
                        .name = m->name,
                        .name_len = m->name_len,
                        .spot = spot_find(f->spot, m->name, m->name_len),
                        .old = &m->old,
                };
        return 0;
}

/*
 * Has the subfolders come last, in order of their names, as they do where all names are sorted: so they are walked in the order in which they
 * once got their ids, which is that of their rows on disk.
 */
static void sort_folders(struct scan_names *names)
{
        size_t files = 0;

        for (size_t i = 0; i < names->count; i++) {
                struct scan_node node = names->nodes[i];
                if (node.type == DT_DIR)
                        continue;
                names->nodes[i] = names->nodes[files];
                names->nodes[files++] = node;
        }
        qsort(names->nodes + files, names->count - files, sizeof(*names->nodes), compare_nodes);
}

static int merge_rows(struct scan_lane *lane, struct scan_folder *f)
{
        struct merge merge;
        int r = merge_begin(&merge, &f->names);

        if (r >= 0) {
                r = tree_view_list(lane->view, f->base, merge_row, &merge);
                if (r < 0)
                        r = tree_failed(f, r);
        }
        free(merge.slots);
        sort_folders(&f->names);
        /* What is missing in a folder that was elsewhere before is nobody's loss. */
        return r >= 0 && merge.n_missing > 0 && !f->is_new ? add_missing(f, merge.n_missing) : r;
}

static int collect_all(struct scan_lane *lane, struct scan_folder *f)
{
        ssize_t n = read_listing(lane, f);
        int r = n < 0 ? (int)n : make_nodes(f, (size_t)n);

        return r >= 0 && f->base ? merge_rows(lane, f) : r;
}

/* ---- names that were told ---- */

static int add_spot(struct scan_lane *lane, struct scan_folder *f, const struct spot *spot)
{
        struct scan_names *names = &f->names;
        struct scan_node *node = &names->nodes[names->count];
        struct tree_row row;
        int r;

        if (f->path_len + (f->path_len > 0) + spot->name_len > PATH_BYTES_MAX) {
                note_too_long(lane, f, spot->name);
                return 0;
        }
        r = scan_lookup(lane, f->scan, f->base, spot, &row);
        if (r < 0)
                return tree_failed(f, r);
        *node = (struct scan_node){ .name = spot->name, .name_len = (uint8_t)spot->name_len, .spot = spot };
        if (r == TREE_OK) {
                set_old(&names->olds[names->count], &row);
                node->old = &names->olds[names->count];
        }
        names->count++;
        return 0;
}

static int collect_spots(struct scan_lane *lane, struct scan_folder *f)
{
        size_t n = f->spot ? HASH_COUNT(f->spot->children) : 0;
        int r = 0;

        f->names.nodes = calloc(MAX(n, (size_t)1), sizeof(*f->names.nodes));
        f->names.olds = malloc(MAX(n, (size_t)1) * sizeof(*f->names.olds));
        if (!f->names.nodes || !f->names.olds)
                return -ENOMEM;
        for (const struct spot *spot = n > 0 ? f->spot->children : NULL; r >= 0 && spot; spot = spot->hh.next)
                r = add_spot(lane, f, spot);
        return r;
}

int scan_names_collect(struct scan_lane *lane, struct scan_folder *f)
{
        return scan_reads_all(f) ? collect_all(lane, f) : collect_spots(lane, f);
}
