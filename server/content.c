#include "server/content.h"

#include <string.h>

#include "base/io.h"
#include "base/pieces.h"

/* What file ROW holds, by ALGORITHM if that is MD5. False: it is not known. */
static bool row_content(const struct tree_row *row, enum hash_algorithm algorithm, struct content_id *ret)
{
        if (row->kind != ENTRY_FILE || (algorithm == HASH_MD5 && !row->has_md5))
                return false;
        *ret = algorithm == HASH_MD5 ? (struct content_id){ .algorithm = HASH_MD5 } : tree_row_content(row);
        if (algorithm != HASH_MD5)
                return true;
        memcpy(ret->bytes, row->md5, HASH_MD5_BYTES);
        return true;
}

void content_missed(struct versions *versions, const char *spider, const char *path,
                    const struct content_id *wanted)
{
        struct content_id held;
        struct tree_row row;

        if (versions_find(versions, spider, path, &row) == TREE_OK &&
            row_content(&row, wanted->algorithm, &held) && content_id_equal(&held, wanted))
                versions_suspect(versions, spider, path);
}

bool content_known(struct versions *versions, const char *spider, const char *path, const struct stat *st,
                   enum hash_algorithm algorithm, struct content_id *ret)
{
        struct tree_stamp stamp = tree_stamp_of(st);
        struct tree_row row;

        if (versions_find(versions, spider, path, &row) != TREE_OK)
                return false;
        if (row.unknown || row.racy || !tree_stamp_equal(&row.stamp, &stamp))
                return false;
        return row_content(&row, algorithm, ret);
}

bool content_known_other(struct versions *versions, const char *spider, const char *path,
                         const struct stat *st, const struct content_id *wanted, struct content_id *ret)
{
        struct content_id known;

        if (!content_known(versions, spider, path, st, wanted->algorithm, &known) ||
            hash_base(known.algorithm) != hash_base(wanted->algorithm) || content_id_equal(&known, wanted))
                return false;
        *ret = known;
        return true;
}

struct content_piece content_piece_at(uint64_t size, uint64_t offset)
{
        uint64_t count = pieces_count(size), index = MIN(offset / PIECE_BYTES, count > 0 ? count - 1 : 0);

        return (struct content_piece){ .begin = index * PIECE_BYTES, .len = piece_len(size, index) };
}

const uint8_t *content_piece_hash(const struct content_id *id, const struct buffer *list,
                                  const struct content_piece *piece)
{
        if (!hash_by_pieces(id->algorithm))
                return id->bytes;
        return (const uint8_t *)list->data + piece->begin / PIECE_BYTES * hash_len(id->algorithm);
}

int content_read_unproved(int fd, const struct content_piece *piece, uint8_t *buf)
{
        ssize_t n = io_pread_all(fd, buf, piece->len, (off_t)piece->begin);

        if (n < 0)
                return (int)n;
        return (size_t)n < piece->len ? -ESTALE : 0;
}

int content_read_piece(int fd, const struct content_id *id, const struct buffer *list,
                       const struct content_piece *piece, uint8_t *buf)
{
        int r = content_read_unproved(fd, piece, buf);

        if (r < 0)
                return r;
        return hash_proves(hash_base(id->algorithm), buf, piece->len, content_piece_hash(id, list, piece))
                       ? 0
                       : -ESTALE;
}

bool content_unchanged(int fd, const struct stat *st)
{
        struct tree_stamp before = tree_stamp_of(st), now;
        struct stat st_now;

        if (fstat(fd, &st_now) < 0)
                return false;
        now = tree_stamp_of(&st_now);
        return tree_stamp_equal(&before, &now);
}
