#include "proto/fetch_frame.h"

#include <assert.h>
#include <string.h>

#define DIGEST_MAX 32

enum part_field {
        PART_ID = 1,
        PART_STATUS = 2,
        PART_TEXT = 3,
        PART_OFFSET = 4,
        PART_LAST = 5,
        PART_DATA = 6,
        PART_LIST = 7,
};

enum want_field {
        WANT_ID = 1,
        WANT_PATH = 2,
        WANT_RAW_PATH = 3,
        WANT_HASH_ALGORITHM = 4,
        WANT_DIGEST = 5,
        WANT_SIZE = 6,
        WANT_OFFSET = 7,
        WANT_LENGTH = 8,
        WANT_URGENT = 9,
        WANT_LIST = 10,
};

enum message_field {
        REPLY_PARTS = 1,
        REQUEST_SPIDER = 1,
        REQUEST_NODE = 2,
        REQUEST_WANTS = 3,
        REQUEST_CANCEL = 4,
        REQUEST_HURRY = 5,
};

/* ---- reading a reply ---- */

static int read_part(const struct wire_field *message, struct fetch_part *ret)
{
        struct wire_reader r = { .at = message->data, .end = message->data + message->len };
        struct fetch_part part = { 0 };

        while (r.at < r.end) {
                struct wire_field f = { 0 };

                if (wire_read_field(&r, &f) < 0)
                        return -EBADMSG;
                switch (f.tag) {
                case WIRE_TAG(PART_ID, WIRE_VARINT):
                        part.id = f.number;
                        break;
                case WIRE_TAG(PART_STATUS, WIRE_VARINT):
                        part.status = (uint32_t)f.number;
                        break;
                case WIRE_TAG(PART_TEXT, WIRE_BYTES):
                        part.text = f.len > 0 ? (const char *)f.data : NULL;
                        part.text_len = f.len;
                        break;
                case WIRE_TAG(PART_OFFSET, WIRE_VARINT):
                        part.offset = f.number;
                        break;
                case WIRE_TAG(PART_LAST, WIRE_VARINT):
                        part.last = f.number != 0;
                        break;
                case WIRE_TAG(PART_LIST, WIRE_VARINT):
                        part.list = f.number != 0;
                        break;
                case WIRE_TAG(PART_DATA, WIRE_BYTES):
                        part.data = f.len > 0 ? f.data : NULL;
                        part.data_len = f.len;
                        break;
                default:
                        if (f.tag >> 3 <= PART_LIST)
                                return -EBADMSG; /* one of our fields, of another type */
                }
        }
        *ret = part;
        return 0;
}

int fetch_reply_next(struct wire_reader *reader, struct fetch_part *ret)
{
        while (reader->at < reader->end) {
                struct wire_field f = { 0 };

                if (wire_read_field(reader, &f) < 0)
                        return -EBADMSG;
                if (f.tag == WIRE_TAG(REPLY_PARTS, WIRE_BYTES))
                        return read_part(&f, ret) < 0 ? -EBADMSG : 1;
                if (f.tag >> 3 == REPLY_PARTS)
                        return -EBADMSG;
        }
        return 0;
}

/* ---- writing a reply ---- */

static size_t number_size(uint64_t value)
{
        return value == 0 ? 0 : 1 + wire_varint_size(value);
}

static size_t bytes_size(size_t len)
{
        return len == 0 ? 0 : 1 + wire_varint_size(len) + len;
}

/* The tag and length of a field whose LEN bytes follow; nothing if there are none. */
static uint8_t *write_length(uint8_t *at, uint32_t field, size_t len)
{
        if (len == 0)
                return at;
        at = wire_write_varint(at, WIRE_TAG(field, WIRE_BYTES));
        return wire_write_varint(at, len);
}

static uint8_t *write_bytes(uint8_t *at, uint32_t field, const void *data, size_t len)
{
        at = write_length(at, field, len);
        if (len > 0)
                memcpy(at, data, len);
        return at + len;
}

/* Of the part alone, without tag and length in the message. */
static size_t part_size(const struct fetch_part *part)
{
        return number_size(part->id) + number_size(part->status) + bytes_size(part->text_len) +
               number_size(part->offset) + number_size(part->last) + number_size(part->list) +
               bytes_size(part->data_len);
}

/* All but the data's bytes. */
static uint8_t *write_part(uint8_t *at, const struct fetch_part *part)
{
        at = wire_write_varint(at, WIRE_TAG(REPLY_PARTS, WIRE_BYTES));
        at = wire_write_varint(at, part_size(part));
        at = wire_write_number(at, PART_ID, part->id);
        at = wire_write_number(at, PART_STATUS, part->status);
        at = write_bytes(at, PART_TEXT, part->text, part->text_len);
        at = wire_write_number(at, PART_OFFSET, part->offset);
        at = wire_write_number(at, PART_LAST, part->last);
        at = wire_write_number(at, PART_LIST, part->list);
        return write_length(at, PART_DATA, part->data_len);
}

size_t fetch_part_head(uint8_t head[FETCH_PART_HEAD_MAX], const struct fetch_part *part)
{
        struct fetch_part textless = *part;

        textless.text_len = 0;
        return (size_t)(write_part(head, &textless) - head);
}

int fetch_part_append(uint8_t *buf, size_t capacity, size_t *len, const struct fetch_part *part)
{
        size_t size = part_size(part), free_bytes = capacity - *len;
        uint8_t *at = buf + *len;

        if (size > free_bytes || 1 + wire_varint_size(size) > free_bytes - size)
                return -ENOSPC;
        at = write_part(at, part);
        if (part->data_len > 0)
                memcpy(at, part->data, part->data_len);
        *len = (size_t)(at - buf) + part->data_len;
        return 0;
}

/* ---- reading a request ---- */

static void take_path(struct fetch_want *want, const struct wire_field *f, bool raw)
{
        if (f->len == 0)
                return;
        want->two_paths |= want->path && want->raw != raw;
        want->path = f->data;
        want->path_len = f->len;
        want->raw = raw;
}

static int take_want_field(struct fetch_want *want, const struct wire_field *f)
{
        switch (f->tag) {
        case WIRE_TAG(WANT_ID, WIRE_VARINT):
                want->id = f->number;
                return 0;
        case WIRE_TAG(WANT_PATH, WIRE_BYTES):
                take_path(want, f, false);
                return 0;
        case WIRE_TAG(WANT_RAW_PATH, WIRE_BYTES):
                take_path(want, f, true);
                return 0;
        case WIRE_TAG(WANT_HASH_ALGORITHM, WIRE_VARINT):
                want->hash_algorithm = (uint32_t)f->number;
                return 0;
        case WIRE_TAG(WANT_DIGEST, WIRE_BYTES):
                want->digest = f->data;
                want->digest_len = f->len;
                return 0;
        case WIRE_TAG(WANT_SIZE, WIRE_VARINT):
                want->size = f->number;
                return 0;
        case WIRE_TAG(WANT_OFFSET, WIRE_VARINT):
                want->offset = f->number;
                return 0;
        case WIRE_TAG(WANT_LENGTH, WIRE_VARINT):
                want->length = f->number;
                return 0;
        case WIRE_TAG(WANT_URGENT, WIRE_VARINT):
                want->urgent = f->number != 0;
                return 0;
        case WIRE_TAG(WANT_LIST, WIRE_VARINT):
                want->list = f->number != 0;
                return 0;
        default:
                return f->tag >> 3 <= WANT_LIST ? -EBADMSG : 0;
        }
}

static int read_want(const struct wire_field *message, struct fetch_want *ret)
{
        struct wire_reader r = { .at = message->data, .end = message->data + message->len };
        struct fetch_want want = { 0 };

        while (r.at < r.end) {
                struct wire_field f = { 0 };

                if (wire_read_field(&r, &f) < 0 || take_want_field(&want, &f) < 0)
                        return -EBADMSG;
        }
        *ret = want;
        return FETCH_WANT;
}

static int read_text(const struct wire_field *f, enum fetch_kind item, struct fetch_request_item *ret)
{
        ret->text = f->data;
        ret->text_len = f->len;
        return item;
}

static int read_id(uint64_t id, enum fetch_kind kind, struct fetch_request_item *ret)
{
        ret->id = id;
        return kind;
}

static int begin_ids(struct fetch_request_reader *reader, const struct wire_field *f, enum fetch_kind kind)
{
        reader->ids = (struct wire_reader){ .at = f->data, .end = f->data + f->len };
        reader->ids_kind = kind;
        return FETCH_END;
}

/* FETCH_END: it is none of ours, or without content. */
static int read_item(struct fetch_request_reader *reader, const struct wire_field *f,
                     struct fetch_request_item *ret)
{
        switch (f->tag) {
        case WIRE_TAG(REQUEST_SPIDER, WIRE_BYTES):
                return read_text(f, FETCH_SPIDER, ret);
        case WIRE_TAG(REQUEST_NODE, WIRE_BYTES):
                return read_text(f, FETCH_NODE, ret);
        case WIRE_TAG(REQUEST_WANTS, WIRE_BYTES):
                return read_want(f, &ret->want);
        case WIRE_TAG(REQUEST_CANCEL, WIRE_VARINT):
                return read_id(f->number, FETCH_CANCEL, ret);
        case WIRE_TAG(REQUEST_CANCEL, WIRE_BYTES):
                return begin_ids(reader, f, FETCH_CANCEL);
        case WIRE_TAG(REQUEST_HURRY, WIRE_VARINT):
                return read_id(f->number, FETCH_HURRY, ret);
        case WIRE_TAG(REQUEST_HURRY, WIRE_BYTES):
                return begin_ids(reader, f, FETCH_HURRY);
        default:
                return f->tag >> 3 <= REQUEST_HURRY ? -EBADMSG : FETCH_END;
        }
}

int fetch_request_next(struct fetch_request_reader *reader, struct fetch_request_item *ret)
{
        for (;;) {
                struct wire_field f = { 0 };
                int r;

                if (reader->ids.at < reader->ids.end) {
                        uint64_t id;

                        return wire_read_varint(&reader->ids, &id) < 0 ? -EBADMSG
                                                                       : read_id(id, reader->ids_kind, ret);
                }
                if (reader->fields.at == reader->fields.end)
                        return FETCH_END;
                if (wire_read_field(&reader->fields, &f) < 0)
                        return -EBADMSG;
                r = read_item(reader, &f, ret);
                if (r != FETCH_END)
                        return r;
        }
}

/* ---- writing a want ---- */

uint8_t *fetch_want_write(uint8_t *at, const struct fetch_want *want)
{
        size_t size = number_size(want->id) + bytes_size(want->path_len) + number_size(want->hash_algorithm) +
                      bytes_size(want->digest_len) + number_size(want->size) + number_size(want->offset) +
                      number_size(want->length) + number_size(want->urgent) + number_size(want->list);

        assert(want->digest_len <= DIGEST_MAX);
        at = wire_write_varint(at, WIRE_TAG(REQUEST_WANTS, WIRE_BYTES));
        at = wire_write_varint(at, size);
        at = wire_write_number(at, WANT_ID, want->id);
        at = write_bytes(at, want->raw ? WANT_RAW_PATH : WANT_PATH, want->path, want->path_len);
        at = wire_write_number(at, WANT_HASH_ALGORITHM, want->hash_algorithm);
        at = write_bytes(at, WANT_DIGEST, want->digest, want->digest_len);
        at = wire_write_number(at, WANT_SIZE, want->size);
        at = wire_write_number(at, WANT_OFFSET, want->offset);
        at = wire_write_number(at, WANT_LENGTH, want->length);
        at = wire_write_number(at, WANT_URGENT, want->urgent);
        return wire_write_number(at, WANT_LIST, want->list);
}
