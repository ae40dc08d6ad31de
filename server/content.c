#include "server/content.h"

#include <string.h>

static bool row_names(const struct tree_row *row, const struct content_id *id)
{
        if (row->kind != ENTRY_FILE)
                return false;
        if (id->algorithm == HASH_MD5)
                return row->has_md5 && memcmp(row->md5, id->bytes, HASH_BYTES) == 0;
        return memcmp(row->digest, id->bytes, HASH_BYTES) == 0;
}

void content_missed(struct versions *versions, const char *spider, const char *path,
                    const struct content_id *wanted)
{
        struct tree_row row;

        if (versions_find(versions, spider, path, &row) == TREE_OK && row_names(&row, wanted))
                versions_suspect(versions, spider, path);
}

bool content_known(struct versions *versions, const char *spider, const char *path, const struct stat *st,
                   enum hash_algorithm algorithm, struct content_id *ret)
{
        struct tree_stamp stamp = tree_stamp_of(st);
        struct tree_row row;

        if (versions_find(versions, spider, path, &row) != TREE_OK)
                return false;
        if (row.kind != ENTRY_FILE || row.unknown || row.racy || !tree_stamp_equal(&row.stamp, &stamp))
                return false;
        if (algorithm == HASH_MD5 && !row.has_md5)
                return false;
        ret->algorithm = algorithm;
        memcpy(ret->bytes, algorithm == HASH_MD5 ? row.md5 : row.digest, HASH_BYTES);
        return true;
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
