#include "server/token_file.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

#include <openssl/crypto.h>

#include "base/io.h"
#include "base/lock.h"

struct token_file {
        char *path;                  /* owned */
        _Atomic uint64_t generation; /* grows once `list` is another; read anywhere */
        struct mutex lock;
        struct token_list *list TSA_GUARDED(&lock); /* owned */
};

static int read_list(const char *path, struct token_list **ret, struct failure *failure)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        int r = io_read_file(AT_FDCWD, path, TOKEN_FILE_BYTES_MAX, &text);

        if (r >= 0)
                r = token_list_parse(text.data ? text.data : "", text.len, ret, failure);
        if (text.data)
                OPENSSL_cleanse(text.data, text.capacity);
        return r;
}

int token_file_reload(struct token_file *file, struct failure *failure)
{
        struct token_list *list, *old;
        int r = read_list(file->path, &list, failure);

        if (r < 0)
                return r;
        mutex_lock(&file->lock);
        old = file->list;
        file->list = list;
        mutex_unlock(&file->lock);
        atomic_fetch_add(&file->generation, 1);
        token_list_free(old);
        return 0;
}

int token_file_load(const char *path, struct token_file **ret, struct failure *failure)
{
        struct token_file *file = calloc(1, sizeof(*file));
        int r;

        if (!file)
                return -ENOMEM;
        mutex_init(&file->lock);
        file->path = strdup(path);
        r = file->path ? token_file_reload(file, failure) : -ENOMEM;
        if (r < 0) {
                token_file_free(file);
                return r;
        }
        *ret = file;
        return 0;
}

void token_file_free(struct token_file *file) TSA_NONE
{
        if (!file)
                return;
        token_list_free(file->list);
        mutex_release(&file->lock);
        free(file->path);
        free(file);
}

enum token_verdict token_file_judge(struct token_file *file, const struct token_claim *claim,
                                    const char *spider)
{
        enum token_verdict verdict;

        mutex_lock(&file->lock);
        verdict = token_list_judge(file->list, claim, spider);
        mutex_unlock(&file->lock);
        return verdict;
}

unsigned token_file_line(struct token_file *file, const struct token_claim *claim)
{
        unsigned line;

        mutex_lock(&file->lock);
        line = token_list_line(file->list, claim);
        mutex_unlock(&file->lock);
        return line;
}

uint64_t token_file_generation(const struct token_file *file)
{
        return atomic_load(&file->generation);
}
