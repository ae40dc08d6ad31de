/*
 * A layer between SQLite and its file: every page in a database bears the hash of its bytes, which is checked whenever the page is read. SQLite itself
 * notices damage only where it does not make sense: a flipped bit in a name, a size or a hash would be shown as if the master had
 * said so. The log has checksums of SQLite's own, checked when a database is opened.
 *
 * The hash is in the last bytes of the page, which SQLite leaves alone if told to reserve them (PAGE_SUM_BYTES).
 */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "base/hash.h"
#include "cache/catalog_db_private.h"

#define PAGE_BYTES  4096
#define RESERVED_AT 20 /* in the head of the first page: how many bytes of each page are reserved */

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

static sqlite3_vfs *below;
static const sqlite3_io_methods *file_below;
static sqlite3_io_methods methods;

static bool is_page(int len, sqlite3_int64 at)
{
        return len == PAGE_BYTES && at % PAGE_BYTES == 0;
}

static uint64_t sum_of(const uint8_t *page)
{
        return hash_xxh3_64(page, PAGE_BYTES - PAGE_SUM_BYTES);
}

/* A database of before, or anybody's, has no sums: who opens it sees by its version that it is none of ours. */
static bool has_no_sums(const uint8_t *page, sqlite3_int64 at)
{
        return at == 0 && page[RESERVED_AT] != PAGE_SUM_BYTES;
}

static int read_page(sqlite3_file *file, void *data, int len, sqlite3_int64 at)
{
        int r = file_below->xRead(file, data, len, at);
        uint64_t sum;

        if (r != SQLITE_OK || !is_page(len, at) || has_no_sums(data, at))
                return r;
        memcpy(&sum, (const uint8_t *)data + PAGE_BYTES - PAGE_SUM_BYTES, PAGE_SUM_BYTES);
        return sum == sum_of(data) ? SQLITE_OK : SQLITE_IOERR_DATA;
}

static int write_page(sqlite3_file *file, const void *data, int len, sqlite3_int64 at)
{
        uint8_t page[PAGE_BYTES];
        uint64_t sum;

        if (!is_page(len, at) || has_no_sums(data, at))
                return file_below->xWrite(file, data, len, at);
        sum = sum_of(data);
        memcpy(page, data, PAGE_BYTES - PAGE_SUM_BYTES);
        memcpy(page + PAGE_BYTES - PAGE_SUM_BYTES, &sum, PAGE_SUM_BYTES);
        return file_below->xWrite(file, page, len, at);
}

/*
 * SQLite makes the index of the log as long as it has to be with a byte in every 4 KiB. Where the blocks of a file system are smaller the rest
 * are holes, and to fill one on a full disk by way of the mapping is SIGBUS. So they are all filled here, where it can be refused.
 */
static int map_index(sqlite3_file *file, int region, int len, int extend, void volatile **ret)
{
        int r = file_below->xShmMap(file, region, len, extend, ret);

        if (r != SQLITE_OK || !*ret || madvise((void *)*ret, (size_t)len, MADV_POPULATE_WRITE) == 0 ||
            errno != EFAULT)
                return r;
        *ret = NULL;
        return SQLITE_FULL;
}

/* All files of the same kind have the same functions: so theirs can be replaced, and nothing else need be known of them. */
static pthread_mutex_t methods_lock = PTHREAD_MUTEX_INITIALIZER;

static void wrap(sqlite3_file *file)
{
        pthread_mutex_lock(&methods_lock);
        if (!file_below) {
                file_below = file->pMethods;
                methods = *file_below;
                methods.iVersion = MIN(methods.iVersion, 2); /* no mapping: it would go past us */
                methods.xRead = read_page;
                methods.xWrite = write_page;
                methods.xShmMap = map_index;
        }
        if (file->pMethods == file_below)
                file->pMethods = &methods;
        pthread_mutex_unlock(&methods_lock);
}

static int open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
        int r = below->xOpen(below, name, file, flags, ret_flags);

        if (r == SQLITE_OK && (flags & SQLITE_OPEN_MAIN_DB))
                wrap(file);
        return r;
}

int db_register_vfs(void)
{
        static sqlite3_vfs vfs;

        below = sqlite3_vfs_find(NULL);
        if (!below)
                return -ENOSYS;
        vfs = *below;
        vfs.pNext = NULL;
        vfs.zName = DB_VFS;
        vfs.xOpen = open_file;
        return sql_errno(sqlite3_vfs_register(&vfs, 0));
}
