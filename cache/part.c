#include "cache/part.h"

#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>

#include "base/io.h"
#include "cache/store_private.h"

#define PART_MAGIC  UINT64_C(0x3120747261707366) /* "fspart 1" */
#define PAGE        ((uint64_t)4096)
#define MARK_BYTES  8u
#define MARKS_CHUNK 512u /* read at once */

/* The last bytes of the file. Native integers: another machine's is damaged, and begun anew. */
struct part_tail {
        uint64_t magic;
        uint64_t size;
        uint64_t listed; /* 0 or 1 */
};

static uint64_t round_up(uint64_t n)
{
        return (n + PAGE - 1) / PAGE * PAGE;
}

struct part_layout part_layout(enum hash_algorithm algorithm, uint64_t size)
{
        struct part_layout layout = { .size = size,
                                      .count = pieces_count(size),
                                      .hash_len = hash_len(algorithm) };

        layout.list = (off_t)round_up(size);
        layout.marks = layout.list + (off_t)(layout.count * layout.hash_len);
        layout.tail = (off_t)round_up((uint64_t)layout.marks + layout.count * MARK_BYTES);
        layout.end = layout.tail + (off_t)sizeof(struct part_tail);
        return layout;
}

void part_path(const struct content_id *id, char path[PART_PATH_MAX])
{
        store_blob_path(id, path);
        strcat(path, PART_SUFFIX);
}

int part_parse_name(const char *name, struct content_id *id)
{
        size_t len = strlen(name), suffix = strlen(PART_SUFFIX);

        if (len < suffix || strcmp(name + len - suffix, PART_SUFFIX) != 0)
                return -EINVAL;
        return hex_decode(name, len - suffix, id->bytes + 1, hash_len(id->algorithm) - 1);
}

static int read_info(int fd, enum hash_algorithm algorithm, uint64_t size, struct part_info *ret)
{
        struct part_tail tail;
        struct stat st;
        ssize_t n;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (size > 0 && (uint64_t)st.st_size == size) {
                *ret = (struct part_info){ .size = size, .whole = true };
                return 0;
        }
        if (st.st_size < (off_t)sizeof(tail))
                return -ENODATA;
        n = io_pread_all(fd, &tail, sizeof(tail), st.st_size - (off_t)sizeof(tail));
        if (n < 0)
                return (int)n;
        if (n != sizeof(tail) || tail.magic != PART_MAGIC || tail.size > (uint64_t)st.st_size ||
            tail.size == 0 || part_layout(algorithm, tail.size).end != st.st_size ||
            (size > 0 && tail.size != size))
                return -ENODATA;
        *ret = (struct part_info){ .size = tail.size, .listed = tail.listed == 1 };
        return 0;
}

int part_read_info(int fd, enum hash_algorithm algorithm, uint64_t size, struct part_info *ret)
{
        int r = read_info(fd, algorithm, size, ret);

        return r == -EIO ? -ENODATA : r; /* a bad sector is damage like any other */
}

static int write_tail(int fd, const struct part_layout *layout, bool listed)
{
        struct part_tail tail = { .magic = PART_MAGIC, .size = layout->size, .listed = listed };

        return io_pwrite_all(fd, &tail, sizeof(tail), layout->tail);
}

int part_format(int fd, const struct part_layout *layout)
{
        return write_tail(fd, layout, false);
}

/* The marks get their room with the list: what is written later must not fail for a mark. */
int part_write_list(int fd, const struct part_layout *layout, const uint8_t *list)
{
        int r = -posix_fallocate(fd, layout->list, layout->tail - layout->list);

        if (r == 0)
                r = io_pwrite_all(fd, list, layout->count * layout->hash_len, layout->list);
        return r < 0 ? r : write_tail(fd, layout, true);
}

static off_t mark_offset(const struct part_layout *layout, uint64_t index)
{
        return layout->marks + (off_t)(index * MARK_BYTES);
}

int part_read_mark(int fd, const struct part_layout *layout, uint64_t index, uint64_t *ret)
{
        ssize_t n = io_pread_all(fd, ret, MARK_BYTES, mark_offset(layout, index));

        return n < 0 ? (int)n : n < (ssize_t)MARK_BYTES ? -ENODATA : 0;
}

int part_peek_mark(int fd, const struct part_layout *layout, uint64_t index, uint64_t *ret)
{
        struct iovec to = { .iov_base = ret, .iov_len = MARK_BYTES };
        ssize_t n = preadv2(fd, &to, 1, mark_offset(layout, index), RWF_NOWAIT);

        if (n < 0 && errno == EOPNOTSUPP) /* by this file system */
                return part_read_mark(fd, layout, index, ret);
        return n < 0 ? -errno : n < (ssize_t)MARK_BYTES ? -ENODATA : 0;
}

int part_write_mark(int fd, const struct part_layout *layout, uint64_t index, uint64_t mark)
{
        return io_pwrite_all(fd, &mark, MARK_BYTES, mark_offset(layout, index));
}

int part_each_mark(int fd, const struct part_layout *layout,
                   void (*each)(uint64_t index, uint64_t mark, void *arg), void *arg)
{
        uint64_t marks[MARKS_CHUNK];

        for (uint64_t first = 0; first < layout->count; first += MARKS_CHUNK) {
                uint64_t n = MIN(layout->count - first, (uint64_t)MARKS_CHUNK);
                ssize_t got = io_pread_all(fd, marks, n * MARK_BYTES, mark_offset(layout, first));
                if (got < 0)
                        return (int)got;
                if ((uint64_t)got < n * MARK_BYTES)
                        return -ENODATA;
                for (uint64_t i = 0; i < n; i++)
                        each(first + i, marks[i], arg);
        }
        return 0;
}

uint64_t part_piece_charge(const struct part_layout *layout, uint64_t index)
{
        return usage_charge(piece_len(layout->size, index));
}

uint64_t part_list_charge(const struct part_layout *layout)
{
        return (uint64_t)(layout->tail - layout->list);
}

uint64_t part_tail_charge(void)
{
        return PAGE;
}

struct charge_state {
        const struct part_layout *layout;
        uint64_t bytes;
};

static void add_charge(uint64_t index, uint64_t mark, void *arg)
{
        struct charge_state *state = arg;

        if (mark != PART_MARK_NONE)
                state->bytes += part_piece_charge(state->layout, index);
}

uint64_t part_charge(int fd, enum hash_algorithm algorithm, const struct stat *st, bool *exact)
{
        struct part_info info = { 0 };
        struct part_layout layout;
        struct charge_state state = { .layout = &layout, .bytes = part_tail_charge() };
        int r = read_info(fd, algorithm, 0, &info);

        if (r == 0 && info.listed) {
                layout = part_layout(algorithm, info.size);
                state.bytes += part_list_charge(&layout);
                r = part_each_mark(fd, &layout, add_charge, &state);
        }
        if (r == 0)
                return state.bytes;
        if (r != -ENODATA)
                *exact = false;
        return usage_charge((uint64_t)st->st_blocks * 512);
}
