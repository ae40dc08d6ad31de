/*
 * A workspace on disk with what looks at it, for tests of passes. Included by one test each.
 */
#pragma once

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/lock.h"
#include "base/log.h"
#include "server/metrics.h"
#include "server/scanner.h"
#include "server/versions.h"
#include "tests/tempdir.h"
#include "tests/unit/unit.h"

struct fixture {
        char dir[64];
        int top; /* the folder that is scanned: dir/ws/sp */
        struct workspace_root *root;
        struct pool *pool;
        struct tree *tree;         /* of test_scanner */
        struct versions *versions; /* of test_versions */
};

static inline void fixture_folder(struct fixture *f, const char *name)
{
        char path[128];

        log_setup(name, LOG_LEVEL_ERROR);
        snprintf(f->dir, sizeof(f->dir), "/tmp/%s.XXXXXX", name);
        assert_non_null(mkdtemp(f->dir));
        assert_int_equal(chmod(f->dir, 0755), 0);
        snprintf(path, sizeof(path), "%s/ws", f->dir);
        assert_int_equal(mkdir(path, 0755), 0);
        assert_int_equal(workspace_root_open(path, &f->root), 0);
        strcat(path, "/sp");
        assert_int_equal(mkdir(path, 0755), 0);
        f->top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->top >= 0);
        assert_int_equal(pool_new(4, &f->pool), 0);
}

static inline void fixture_remove(struct fixture *f)
{

        workspace_root_free(f->root);
        close(f->top);
        assert_int_equal(tempdir_remove(f->dir), 0);
        free(f);
}

static inline void write_file(const struct fixture *f, const char *path, const char *text)
{
        int fd = openat(f->top, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        close(fd);
}

/* Long enough for the files' times to be certain (T2). */
static inline void let_age(void)
{
        usleep(60 * 1000);
}

/* A place to wait for one answer. */
struct answer {
        struct versions_request request;
        struct mutex lock;
        struct condition come;
        bool done;
        int error;
        struct scanner_result result;
};

static inline void answer_set(struct answer *a, int error, const struct scanner_result *result)
{
        mutex_lock(&a->lock);
        a->error = error;
        if (result)
                a->result = *result;
        a->done = true;
        condition_signal(&a->come);
        mutex_unlock(&a->lock);
}

static inline void answer_version(struct versions_request *request, int error)
{
        answer_set((struct answer *)((char *)request - offsetof(struct answer, request)), error, NULL);
}

static inline void answer_init(struct answer *a)
{
        *a = (struct answer){ .request.done = answer_version };
        mutex_init(&a->lock);
        condition_init(&a->come);
}

static inline int answer_wait(struct answer *a)
{
        mutex_lock(&a->lock);
        while (!a->done)
                condition_wait(&a->come, &a->lock);
        mutex_unlock(&a->lock);
        mutex_release(&a->lock);
        condition_release(&a->come);
        return a->error;
}
