/*
 * The messages of fsyncfs.v1.Workspace/Fetch by hand (workspace.proto): contents must not go through protobuf-c, which copies them.
 * A FetchReply is read part by part in place, and written so that a content's bytes need not be moved; a FetchRequest is read want by want, so that
 * a message full of tiny wants never grows in memory. Everything read is hostile: nothing is trusted, nothing read beyond the end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/wire_field.h"

/** A FetchPart; read: pointers borrow from the message. */
struct fetch_part {
        uint64_t id;
        uint32_t status; /* 0, or a gRPC status code */
        const char *
                text; /* beside a status: text_len bytes, not NUL-terminated, not checked to be UTF-8; NULL: none */
        size_t text_len;
        uint64_t offset;
        bool last;
        bool list;           /* data and offset are of the list of the pieces' hashes */
        const uint8_t *data; /* data_len bytes; NULL: none */
        size_t data_len;
};

/** Begins to read the LEN bytes of a FetchReply. */
static inline struct wire_reader fetch_reply_open(const uint8_t *msg, size_t len)
{
        return (struct wire_reader){ .at = msg, .end = msg + len };
}

/**
 * The next part: 1 with RET filled, 0 at the end, -EBADMSG if what follows is malformed (RET untouched; what came before was well-formed).
 * Unknown fields are skipped; of a field that comes twice the last one counts. What a part says is for the caller to check: an unknown id, a range that
 * was not asked for, data beside a status.
 */
int fetch_reply_next(struct wire_reader *reader, struct fetch_part *ret);

#define FETCH_PART_HEAD_MAX 64

/**
 * Writes all of PART, the tag of `parts` included, but the bytes of its data: tag and length of `data` come last, so that data_len bytes must follow, in the
 * same buffer or from one of their own. Its `text` is ignored (fetch_part_append writes it); `data` may be NULL. Returns the bytes written to HEAD.
 */
size_t fetch_part_head(uint8_t head[FETCH_PART_HEAD_MAX], const struct fetch_part *part);

/**
 * Appends PART whole, text and data included, to the *LEN bytes of a FetchReply in BUF. -ENOSPC if it does not fit within CAPACITY (nothing is written then):
 * it fits for sure if text_len + data_len + FETCH_PART_HEAD_MAX bytes are free.
 */
int fetch_part_append(uint8_t *buf, size_t capacity, size_t *len, const struct fetch_part *part);

/** A FetchWant; read: pointers borrow from the message. */
struct fetch_want {
        uint64_t id;
        const uint8_t *
                path; /* `path` or `raw_path`, whichever is not empty: path_len bytes, not checked; NULL: none */
        size_t path_len;
        bool two_paths; /* both were given */
        bool raw;       /* it was `raw_path` */
        uint32_t hash_algorithm;
        const uint8_t *digest; /* digest_len bytes; NULL: none */
        size_t digest_len;
        uint64_t size, offset, length;
        bool urgent;
        bool list; /* the hashes of all pieces first */
};

/** One field of a FetchRequest. */
enum fetch_kind {
        FETCH_END = 0,
        FETCH_SPIDER = 1, /* text */
        FETCH_NODE = 2,   /* text */
        FETCH_WANT = 3,   /* want */
        FETCH_CANCEL = 4, /* id */
        FETCH_HURRY = 5,  /* id */
};

struct fetch_request_item {
        struct fetch_want want;
        uint64_t id;
        const uint8_t *text; /* text_len bytes, not checked */
        size_t text_len;
};

/** A FetchRequest being read. */
struct fetch_request_reader {
        struct wire_reader fields;
        struct wire_reader ids; /* what is left of a packed `cancel` or `hurry` */
        enum fetch_kind ids_kind;
};

static inline struct fetch_request_reader fetch_request_open(const uint8_t *msg, size_t len)
{
        return (struct fetch_request_reader){ .fields = { .at = msg, .end = msg + len } };
}

/**
 * The next item, in the order of the message: an enum fetch_kind with its members of RET filled, FETCH_END at the end, -EBADMSG if what follows is malformed.
 * Unknown fields are skipped. What is in a want is for the caller to check.
 */
int fetch_request_next(struct fetch_request_reader *reader, struct fetch_request_item *ret);

/**
 * The bytes that fetch_want_write writes at most for a path of PATH_LEN bytes and a digest of 32.
 */
#define FETCH_WANT_MAX(path_len) ((size_t)(path_len) + 144)

/**
 * Writes WANT as a `wants` field of a FetchRequest to AT, where FETCH_WANT_MAX(path_len) bytes are free (digest_len 32 at most). Returns the end. `raw` says
 * which of the two path fields is written: a path that is not UTF-8 must be raw.
 */
uint8_t *fetch_want_write(uint8_t *at, const struct fetch_want *want);
