/* What a peer's Fetch messages may do to their parsers: nothing but be refused. */
#include <assert.h>

#include "proto/fetch_frame.h"
#include "tests/fuzz/driver.h"

static const uint8_t *begin, *end;

/* What a parser points at lies within the message. */
static void check_within(const void *data, size_t len)
{
        const uint8_t *at = data;

        assert(len == 0 || (at >= begin && at <= end && len <= (size_t)(end - at)));
}

static void read_reply(const uint8_t *data, size_t len)
{
        struct wire_reader reader = fetch_reply_open(data, len);
        struct fetch_part part;

        while (fetch_reply_next(&reader, &part) > 0) {
                check_within(part.text, part.text_len);
                check_within(part.data, part.data_len);
        }
}

static void read_request(const uint8_t *data, size_t len)
{
        struct fetch_request_reader reader = fetch_request_open(data, len);
        struct fetch_request_item item;
        int kind;

        while ((kind = fetch_request_next(&reader, &item)) > 0)
                if (kind == FETCH_SPIDER || kind == FETCH_NODE) {
                        check_within(item.text, item.text_len);
                } else if (kind == FETCH_WANT) {
                        check_within(item.want.path, item.want.path_len);
                        check_within(item.want.digest, item.want.digest_len);
                }
}

void fuzz_one(const uint8_t *data, size_t len)
{
        begin = data;
        end = data + len;
        read_reply(data, len);
        read_request(data, len);
}
