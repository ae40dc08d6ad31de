#include "server/learned_list.h"

#include <string.h>

#include <uthash.h>

#include "base/hash.h"
#include "base/path.h"
#include "proto/wire.h"

#define FORMAT       "fsyncfs-learned 1\n"
#define UNIT         1000        /* one report, one rank */
#define DECAY        933         /* thousandths: halves in ten */
#define SCORE_MIN    60          /* less is forgotten */
#define SCORE_MAX    (16 * UNIT) /* what a path in every report comes to, and a little more */
#define POSITION_MAX ((uint64_t)UNIT * WIRE_LEARNED_PATHS_MAX)

/* A path while lists are merged. */
struct slot {
        struct learned_entry *entry;
        bool fresh; /* in the report that is being merged */
        UT_hash_handle hh;
};

struct merge {
        struct slot *slots; /* owned, room for all; those in use are in the table */
        struct slot *table; /* by path */
        size_t n;
};

void learned_list_release(struct learned_list *list)
{
        for (size_t i = 0; i < list->n; i++)
                free(list->entries[i]);
        free(list->entries);
        *list = (struct learned_list){ 0 };
}

static struct learned_entry *entry_new(const char *path, size_t len)
{
        struct learned_entry *entry = calloc(1, sizeof(*entry) + len + 1);

        if (!entry)
                return NULL;
        entry->len = len;
        memcpy(entry->path, path, len);
        return entry;
}

/* ---- merging ---- */

static int add_slot(struct merge *m, struct learned_entry *entry)
{
        struct slot *slot = &m->slots[m->n];

        slot->entry = entry;
        HASH_ADD_KEYPTR(hh, m->table, entry->path, entry->len, slot);
        if (!slot->hh.tbl)
                return -ENOMEM;
        m->n++;
        return 0;
}

/* The slot of PATH, made if need be. NULL: no memory. */
static struct slot *find_slot(struct merge *m, const struct buffer *path)
{
        struct learned_entry *entry;
        struct slot *slot;

        HASH_FIND(hh, m->table, path->data, path->len, slot);
        if (slot)
                return slot;
        entry = entry_new(path->data, path->len);
        if (!entry || add_slot(m, entry) < 0) {
                free(entry);
                return NULL;
        }
        return &m->slots[m->n - 1];
}

/* PATH was the RANKth that was read. */
static int note_rank(struct merge *m, const struct buffer *path, size_t rank)
{
        struct slot *slot = find_slot(m, path);
        struct learned_entry *entry;

        if (!slot)
                return -ENOMEM;
        entry = slot->entry;
        if (slot->fresh)
                return 0; /* named twice: the first counts */
        slot->fresh = true;
        entry->position =
                (entry->position * entry->score + (uint64_t)rank * UNIT * UNIT) / (entry->score + UNIT);
        entry->score = MIN(entry->score + UNIT, (uint32_t)SCORE_MAX);
        return 0;
}

static int note_report(struct merge *m, const struct learned_report *report)
{
        _cleanup_buffer_ struct buffer path = { 0 };
        size_t bytes = 0;
        int r = 0;

        for (size_t i = 0; r == 0 && i < MIN(report->n, (size_t)WIRE_LEARNED_PATHS_MAX); i++) {
                buffer_truncate(&path, 0);
                r = buffer_printf(&path, "%s%s", report->folder, report->folder[0] ? "/" : "");
                if (r == 0)
                        r = buffer_append(&path, report->paths[i].data, report->paths[i].len);
                bytes += path.len;
                if (bytes > WIRE_LEARNED_BYTES_MAX)
                        break;
                if (r == 0 && path.len <= PATH_BYTES_MAX)
                        r = note_rank(m, &path, i);
        }
        return r;
}

static int by_score(const void *a, const void *b)
{
        const struct slot *x = a, *y = b;

        if (x->entry->score != y->entry->score)
                return x->entry->score > y->entry->score ? -1 : 1;
        return x->entry->position < y->entry->position ? -1 : x->entry->position > y->entry->position;
}

static int by_position(const void *a, const void *b)
{
        const struct learned_entry *x = *(struct learned_entry *const *)a,
                                   *y = *(struct learned_entry *const *)b;

        if (x->position != y->position)
                return x->position < y->position ? -1 : 1;
        return strcmp(x->path, y->path);
}

/* The best of M become LIST, as far as there is room for their pointers; the rest is freed. M's table is void afterwards. */
static void keep_best(struct merge *m, struct learned_list *list)
{
        HASH_CLEAR(hh, m->table);
        if (m->n > 0)
                qsort(m->slots, m->n, sizeof(*m->slots), by_score);
        list->n = list->bytes = 0;
        for (size_t i = 0; i < m->n; i++) {
                struct learned_entry *entry = m->slots[i].entry;

                if (entry->score < SCORE_MIN || list->n == WIRE_LEARNED_PATHS_MAX ||
                    list->bytes + entry->len > WIRE_LEARNED_BYTES_MAX) {
                        free(entry);
                        continue;
                }
                list->bytes += entry->len;
                list->entries[list->n++] = entry;
        }
        if (list->n > 0)
                qsort(list->entries, list->n, sizeof(struct learned_entry *), by_position);
}

int learned_list_merge(struct learned_list *list, const struct learned_report *report)
{
        size_t most = list->n + report->n;
        struct merge m = { .slots = calloc(most + 1, sizeof(struct slot)) };
        struct learned_entry **room = reallocarray(list->entries, most + 1, sizeof(*room));
        int r = 0;

        if (room)
                list->entries = room;
        if (!room || !m.slots) {
                free(m.slots);
                return -ENOMEM;
        }
        for (size_t i = 0; i < list->n; i++) {
                list->entries[i]->score = list->entries[i]->score * DECAY / UNIT;
                if (r < 0 || (r = add_slot(&m, list->entries[i])) < 0)
                        free(list->entries[i]);
        }
        if (r == 0)
                r = note_report(&m, report);
        keep_best(&m, list);
        free(m.slots);
        return r;
}

/* ---- as text ---- */

static bool is_plain(unsigned char c)
{
        return c > ' ' && c != '%' && c != 0x7f;
}

static int write_entry(const struct learned_entry *entry, struct buffer *out)
{
        int r = buffer_printf(out, "%u %llu ", entry->score, (unsigned long long)entry->position);

        for (size_t i = 0; r == 0 && i < entry->len; i++) {
                unsigned char c = (unsigned char)entry->path[i];
                r = is_plain(c) ? buffer_append(out, &c, 1) : buffer_printf(out, "%%%02x", c);
        }
        return r < 0 ? r : buffer_append(out, "\n", 1);
}

int learned_list_write(const struct learned_list *list, struct buffer *out)
{
        int r = buffer_append(out, FORMAT, strlen(FORMAT));

        for (size_t i = 0; r == 0 && i < list->n; i++)
                r = write_entry(list->entries[i], out);
        return r;
}

/* A number and the blank behind it. */
static int read_number(const char **at, const char *end, uint64_t max, uint64_t *ret)
{
        const char *p = *at;
        uint64_t n = 0;

        while (p < end && *p >= '0' && *p <= '9' && n <= max)
                n = n * 10 + (uint64_t)(*p++ - '0');
        if (p == *at || n > max || p == end || *p != ' ')
                return -EBADMSG;
        *at = p + 1;
        *ret = n;
        return 0;
}

static int read_path(const char *at, const char *end, char path[PATH_BYTES_MAX], size_t *ret_len)
{
        size_t len = 0;

        for (; at < end; at++) {
                uint8_t c = (uint8_t)*at;
                if (len == PATH_BYTES_MAX || (!is_plain(c) && c != '%'))
                        return -EBADMSG;
                if (c == '%') {
                        if (end - at < 3 || hex_decode(at + 1, 2, &c, 1) < 0)
                                return -EBADMSG;
                        at += 2;
                }
                path[len++] = (char)c;
        }
        *ret_len = len;
        return len > 0 && path_check(path, len) == 0 ? 0 : -EBADMSG;
}

static int read_line(struct learned_list *list, const char *at, const char *end)
{
        struct learned_entry *entry;
        char path[PATH_BYTES_MAX];
        uint64_t score, position;
        size_t len = 0;
        int r = read_number(&at, end, SCORE_MAX, &score);

        if (r == 0)
                r = read_number(&at, end, POSITION_MAX, &position);
        if (r == 0)
                r = read_path(at, end, path, &len);
        if (r < 0 || list->n == WIRE_LEARNED_PATHS_MAX || list->bytes + len > WIRE_LEARNED_BYTES_MAX)
                return -EBADMSG;
        entry = entry_new(path, len);
        if (!entry)
                return -ENOMEM;
        entry->score = (uint32_t)score;
        entry->position = position;
        list->entries[list->n++] = entry;
        list->bytes += len;
        return 0;
}

/* Each path once, as merging takes for granted. */
static int check_distinct(const struct learned_list *list)
{
        struct merge m = { .slots = calloc(list->n + 1, sizeof(struct slot)) };
        int r = m.slots ? 0 : -ENOMEM;

        for (size_t i = 0; r == 0 && i < list->n; i++) {
                struct slot *slot;
                HASH_FIND(hh, m.table, list->entries[i]->path, list->entries[i]->len, slot);
                r = slot ? -EBADMSG : add_slot(&m, list->entries[i]);
        }
        HASH_CLEAR(hh, m.table);
        free(m.slots);
        return r;
}

int learned_list_read(struct learned_list *list, const char *text, size_t len)
{
        const char *end = text + len, *at = text + strlen(FORMAT);
        int r = len >= strlen(FORMAT) && memcmp(text, FORMAT, strlen(FORMAT)) == 0 ? 0 : -EBADMSG;

        list->entries = r == 0 ? calloc(WIRE_LEARNED_PATHS_MAX, sizeof(struct learned_entry *)) : NULL;
        if (r == 0 && !list->entries)
                r = -ENOMEM;
        while (r == 0 && at < end) {
                const char *line_end = memchr(at, '\n', (size_t)(end - at));
                r = line_end ? read_line(list, at, line_end) : -EBADMSG;
                if (r == 0)
                        at = line_end + 1;
        }
        if (r == 0)
                r = check_distinct(list);
        if (r < 0)
                learned_list_release(list);
        return r;
}

const char *learned_entry_below(const struct learned_entry *entry, const char *folder)
{
        size_t len = strlen(folder);

        if (len == 0)
                return entry->path;
        return strncmp(entry->path, folder, len) == 0 && entry->path[len] == '/' ? entry->path + len + 1
                                                                                 : NULL;
}
