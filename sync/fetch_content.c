#include <stdlib.h>
#include <string.h>

#include "proto/rpc.h"
#include "sync/fetch_private.h"

struct fetch_content *fetch_content_new(const void *data, size_t len)
{
        struct fetch_content *content = malloc(sizeof(*content) + len);

        if (!content)
                return NULL;
        atomic_init(&content->refs, 1);
        content->len = len;
        content->data = content->own;
        content->message = NULL;
        if (data)
                memcpy(content->own, data, len);
        return content;
}

struct fetch_content *fetch_content_take(struct channel_message *message, const uint8_t *data, size_t len)
{
        struct fetch_content *content = fetch_content_new(NULL, 0);

        if (!content)
                return NULL;
        content->len = len;
        content->data = data;
        content->message = channel_keep(message);
        if (!content->message) {
                free(content);
                return NULL;
        }
        return content;
}

struct fetch_content *fetch_content_ref(struct fetch_content *content)
{
        atomic_fetch_add_explicit(&content->refs, 1, memory_order_relaxed);
        return content;
}

void fetch_content_unref(struct fetch_content *content)
{
        if (!content || atomic_fetch_sub_explicit(&content->refs, 1, memory_order_acq_rel) != 1)
                return;
        rpc_message_free(content->message);
        free(content);
}
