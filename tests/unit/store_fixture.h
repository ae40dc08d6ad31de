/*
 * What the tests of the store share: a store in a folder of its own, contents made from texts, and looks at them.
 */
#pragma once

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/unit.h"

#include "base/io.h"
#include "base/lock.h"
#include "base/log.h"
#include "cache/store.h"
#include "tests/tempdir.h"

#define SKIPPED 77 /* exit code of a child that could not run its test */

struct fixture {
        char dir[64];
        struct store *store;
};

static inline int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        strcpy(f->dir, "/tmp/test_store.XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        assert_int_equal(store_open(f->dir, &f->store), 0);
        *state = f;
        return 0;
}

static inline int tear_down(void **state)
{
        struct fixture *f = *state;

        store_free(f->store);
        tempdir_remove(f->dir);
        free(f);
        return 0;
}

static inline struct content_id id_of(enum hash_algorithm algorithm, const void *data, size_t len)
{
        _cleanup_hasher_ struct hasher *h = NULL;
        struct content_id id;

        assert_int_equal(hasher_new(algorithm, &h), 0);
        hasher_update(h, data, len);
        hasher_final(h, &id);
        return id;
}

static inline struct content_id id_of_text(const char *text)
{
        return id_of(HASH_XXH3, text, strlen(text));
}

static inline int put(struct store *store, const struct content_id *id, const void *data, size_t len)
{
        struct store_writer *writer;
        int r = store_write_begin(store, id, len, &writer);

        if (r != STORE_OK)
                return r;
        assert_int_equal(store_write(writer, data, len), 0);
        return store_write_commit(writer);
}

static inline struct content_id put_text(struct store *store, const char *text)
{
        struct content_id id = id_of_text(text);

        assert_int_equal(put(store, &id, text, strlen(text)), STORE_OK);
        return id;
}

static inline void assert_holds(struct store *store, const struct content_id *id, const char *text)
{
        _cleanup_buffer_ struct buffer got = { 0 };
        _cleanup_close_ int fd = -1;

        assert_int_equal(store_get(store, id, &fd), STORE_OK);
        assert_int_equal(io_read_to_end(fd, 1 << 24, &got), 0);
        assert_int_equal(got.len, strlen(text));
        assert_memory_equal(got.data ? got.data : "", text, got.len);
}

static inline void blob_path(const struct fixture *f, const struct content_id *id, char path[256])
{
        char hex[2 * HASH_BYTES + 1];

        hex_encode(id->bytes, hash_len(id->algorithm), hex);
        snprintf(path, 256, "%s/blobs/%s/%.2s/%s", f->dir, hash_algorithm_name(id->algorithm), hex, hex + 2);
}

static inline struct stat blob_stat(const struct fixture *f, const struct content_id *id)
{
        char path[256];
        struct stat st;

        blob_path(f, id, path);
        assert_int_equal(stat(path, &st), 0);
        return st;
}

static inline struct store_stats stats_of(struct store *store)
{
        struct store_stats stats;

        assert_int_equal(store_stat(store, &stats), 0);
        return stats;
}

/* Runs BODY in a child; returns its exit code, or -1 if a signal ended it. */
static inline int in_child(int (*body)(struct fixture *f), struct fixture *f)
{
        int status;
        pid_t pid = fork();

        if (pid == 0)
                _exit(body(f));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
