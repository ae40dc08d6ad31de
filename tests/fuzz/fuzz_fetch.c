/* What a peer's Fetch messages may do to their parsers: nothing but be refused. What was read is written again, and reads as the same. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "proto/fetch_frame.h"
#include "tests/fuzz/driver.h"

static const uint8_t *begin, *end;

/* What a parser points at lies within the message. */
static void check_within(const void *data, size_t len)
{
        const uint8_t *at = data;

        assert(len == 0 || (at >= begin && at <= end && len <= (size_t)(end - at)));
}

static bool same_bytes(const void *a, size_t a_len, const void *b, size_t b_len)
{
        return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

static void write_part(const struct fetch_part *part)
{
        size_t capacity = part->text_len + part->data_len + FETCH_PART_HEAD_MAX, len = 0;
        uint8_t *buf = malloc(capacity);
        struct wire_reader reader;
        struct fetch_part again;
        int r;

        assert(buf);
        r = fetch_part_append(buf, capacity, &len, part);
        assert(r == 0 && len <= capacity);
        reader = fetch_reply_open(buf, len);
        r = fetch_reply_next(&reader, &again);
        assert(r == 1);
        assert(again.id == part->id && again.status == part->status && again.offset == part->offset);
        assert(again.last == part->last && again.list == part->list);
        assert(same_bytes(again.data, again.data_len, part->data, part->data_len));
        /* A text counts beside a status only. */
        assert(part->status == 0 || same_bytes(again.text, again.text_len, part->text, part->text_len));
        r = fetch_reply_next(&reader, &again);
        assert(r == 0);
        free(buf);
}

static void read_reply(const uint8_t *data, size_t len)
{
        struct wire_reader reader = fetch_reply_open(data, len);
        struct fetch_part part;

        while (fetch_reply_next(&reader, &part) > 0) {
                check_within(part.text, part.text_len);
                check_within(part.data, part.data_len);
                write_part(&part);
        }
}

static void write_want(const struct fetch_want *want)
{
        size_t capacity = FETCH_WANT_MAX(want->path_len), len;
        uint8_t *buf = malloc(capacity);
        struct fetch_request_reader reader;
        struct fetch_request_item again;
        int kind;

        assert(buf);
        len = (size_t)(fetch_want_write(buf, want) - buf);
        assert(len <= capacity);
        reader = fetch_request_open(buf, len);
        kind = fetch_request_next(&reader, &again);
        assert(kind == FETCH_WANT);
        assert(again.want.id == want->id && again.want.hash_algorithm == want->hash_algorithm);
        assert(again.want.size == want->size && again.want.offset == want->offset);
        assert(again.want.length == want->length && again.want.urgent == want->urgent);
        assert(again.want.list == want->list && !again.want.two_paths);
        assert(same_bytes(again.want.path, again.want.path_len, want->path, want->path_len));
        assert(want->path_len == 0 || again.want.raw == want->raw);
        assert(same_bytes(again.want.digest, again.want.digest_len, want->digest, want->digest_len));
        kind = fetch_request_next(&reader, &again);
        assert(kind == FETCH_END);
        free(buf);
}

static void read_want(const struct fetch_want *want)
{
        check_within(want->path, want->path_len);
        check_within(want->digest, want->digest_len);
        if (want->digest_len <= HASH_BYTES)
                write_want(want);
}

static void read_request(const uint8_t *data, size_t len)
{
        struct fetch_request_reader reader = fetch_request_open(data, len);
        struct fetch_request_item item;
        int kind;

        while ((kind = fetch_request_next(&reader, &item)) > 0)
                if (kind == FETCH_SPIDER || kind == FETCH_NODE)
                        check_within(item.text, item.text_len);
                else if (kind == FETCH_WANT)
                        read_want(&item.want);
}

void fuzz_one(const uint8_t *data, size_t len)
{
        begin = data;
        end = data + len;
        read_reply(data, len);
        read_request(data, len);
}
