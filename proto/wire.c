#include "proto/wire.h"

#include <stdalign.h>
#include <string.h>

#include "base/hash.h"
#include "base/util.h"
#include "proto/rpc.h"
#include "proto/wire_field.h"

enum download_field {
        FIELD_DATA = 1,
        FIELD_IS_COMPLETE = 2,
        FIELD_ERROR = 3,
        FIELD_TOTAL_BYTES = 4,
};

/* ---- reading ---- */

/* Looks into the strings of a message of TYPE and of the messages in it; depth is bounded by the .proto files: none is recursive.
 * True also if the message is broken: protobuf-c takes tags and lengths that we do not, and what follows them would go unseen. */
static bool hides_nul(const ProtobufCMessageDescriptor *type, const uint8_t *msg, size_t len)
{
        struct wire_reader r = { .at = msg, .end = msg + len };

        while (r.at < r.end) {
                const ProtobufCFieldDescriptor *field;
                struct wire_field f = { 0 };

                if (wire_read_field(&r, &f) < 0)
                        return true;
                field = protobuf_c_message_descriptor_get_field(type, f.tag >> 3);
                if (!field || (f.tag & 7) != WIRE_BYTES || f.len == 0)
                        continue;
                if (field->type == PROTOBUF_C_TYPE_STRING && memchr(f.data, '\0', f.len))
                        return true;
                if (field->type == PROTOBUF_C_TYPE_MESSAGE && hides_nul(field->descriptor, f.data, f.len))
                        return true;
        }
        return false;
}

ProtobufCMessage *wire_unpack(const ProtobufCMessageDescriptor *type, ProtobufCAllocator *allocator,
                              const uint8_t *msg, size_t len)
{
        return hides_nul(type, msg, len) ? NULL : protobuf_c_message_unpack(type, allocator, len, msg);
}

int wire_download_chunk_parse(const uint8_t *msg, size_t len, struct wire_download_chunk *ret)
{
        struct wire_reader r = { .at = msg, .end = msg + len };
        struct wire_download_chunk chunk = { 0 };

        while (r.at < r.end) {
                struct wire_field f = { 0 };

                if (wire_read_field(&r, &f) < 0)
                        return -EBADMSG;
                switch (f.tag) {
                case WIRE_TAG(FIELD_DATA, WIRE_BYTES):
                        chunk.data = f.data;
                        chunk.data_len = f.len;
                        break;
                case WIRE_TAG(FIELD_IS_COMPLETE, WIRE_VARINT):
                        chunk.is_complete = f.number != 0;
                        break;
                case WIRE_TAG(FIELD_ERROR, WIRE_BYTES):
                        chunk.error = f.len > 0 ? (const char *)f.data : NULL;
                        chunk.error_len = f.len;
                        break;
                case WIRE_TAG(FIELD_TOTAL_BYTES, WIRE_VARINT):
                        chunk.total_bytes = (int64_t)f.number;
                        break;
                default:
                        if (f.tag >> 3 <= FIELD_TOTAL_BYTES)
                                return -EBADMSG; /* one of our fields, of another type */
                }
        }
        *ret = chunk;
        return 0;
}

/* ---- writing ---- */

size_t wire_download_head(uint8_t head[WIRE_DOWNLOAD_HEAD_MAX], size_t data_len, bool is_complete,
                          int64_t total_bytes)
{
        uint8_t *at = head;

        if (is_complete) {
                *at++ = WIRE_TAG(FIELD_IS_COMPLETE, WIRE_VARINT);
                *at++ = 1;
        }
        if (total_bytes != 0) {
                *at++ = WIRE_TAG(FIELD_TOTAL_BYTES, WIRE_VARINT);
                at = wire_write_varint(at, (uint64_t)total_bytes);
        }
        if (data_len > 0) {
                *at++ = WIRE_TAG(FIELD_DATA, WIRE_BYTES);
                at = wire_write_varint(at, data_len);
        }
        return (size_t)(at - head);
}

enum scan_field {
        SCAN_IS_COMPLETE = 2,
        SCAN_ROOT_DIGEST = 100,
        SCAN_REVISION = 101,
        SCAN_UNCHANGED = 102,
        SCAN_PACK = 103,
        SCAN_STRATEGY = 104,
        SCAN_BASE_REVISION = 105,
        SCAN_TOTAL_ENTRIES = 106,
        SCAN_TOTAL_BYTES = 107,
        SCAN_NEXT_OFFSET = 108,
        SCAN_NOTICE = 109,
        SCAN_OFFSET = 110,
};

size_t wire_scan_head(uint8_t head[WIRE_SCAN_HEAD_MAX], const struct wire_scan_head *chunk)
{
        uint8_t *at = wire_write_number(head, SCAN_IS_COMPLETE, chunk->is_complete);

        if (chunk->root_digest) {
                at = wire_write_varint(at, WIRE_TAG(SCAN_ROOT_DIGEST, WIRE_BYTES));
                at = wire_write_varint(at, chunk->root_digest_len);
                memcpy(at, chunk->root_digest, chunk->root_digest_len);
                at += chunk->root_digest_len;
        }
        at = wire_write_number(at, SCAN_REVISION, chunk->revision);
        at = wire_write_number(at, SCAN_UNCHANGED, chunk->unchanged);
        at = wire_write_number(at, SCAN_STRATEGY, chunk->strategy);
        at = wire_write_number(at, SCAN_BASE_REVISION, chunk->base_revision);
        at = wire_write_number(at, SCAN_TOTAL_ENTRIES, chunk->total_entries);
        at = wire_write_number(at, SCAN_TOTAL_BYTES, chunk->total_bytes);
        at = wire_write_number(at, SCAN_NEXT_OFFSET, chunk->next_offset);
        at = wire_write_number(at, SCAN_NOTICE, chunk->notice);
        at = wire_write_number(at, SCAN_OFFSET, chunk->offset);
        if (chunk->pack_len > 0) {
                at = wire_write_varint(at, WIRE_TAG(SCAN_PACK, WIRE_BYTES));
                at = wire_write_varint(at, chunk->pack_len);
        }
        return (size_t)(at - head);
}

/* ---- the arena ---- */

#define BLOCK_BYTES ((size_t)64 << 10)
#define ALIGNMENT   alignof(max_align_t)

struct wire_arena_block {
        struct wire_arena_block *next;
        size_t capacity, used;
        alignas(max_align_t) uint8_t bytes[];
};

static struct wire_arena_block *block_new(size_t capacity)
{
        struct wire_arena_block *block = malloc(sizeof(*block) + capacity);

        if (block)
                *block = (struct wire_arena_block){ .capacity = capacity };
        return block;
}

static void *arena_alloc(void *allocator_data, size_t size)
{
        struct wire_arena *arena = allocator_data;
        struct wire_arena_block *block = arena->blocks;
        size_t need;

        if (size > arena->limit_bytes)
                return NULL; /* also keeps the sums below from overflowing */
        need = (MAX(size, 1) + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
        if (need > arena->limit_bytes - arena->used_bytes)
                return NULL;
        if (!block || block->capacity - block->used < need) {
                block = block_new(MAX(need, BLOCK_BYTES));
                if (!block)
                        return NULL;
                block->next = arena->blocks;
                arena->blocks = block;
        }
        block->used += need;
        arena->used_bytes += need;
        return block->bytes + block->used - need;
}

static void arena_free(void *allocator_data, void *pointer)
{
        /* All at once, in wire_arena_clear. */
}

static void free_blocks(struct wire_arena_block *block)
{
        while (block) {
                struct wire_arena_block *next = block->next;

                free(block);
                block = next;
        }
}

void wire_arena_init(struct wire_arena *arena, size_t limit_bytes)
{
        *arena = (struct wire_arena){
                .allocator = { .alloc = arena_alloc, .free = arena_free, .allocator_data = arena },
                .limit_bytes = MIN(limit_bytes, SIZE_MAX / 2),
        };
}

void wire_arena_clear(struct wire_arena *arena)
{
        if (arena->blocks) {
                free_blocks(TAKE_PTR(arena->blocks->next));
                arena->blocks->used = 0;
        }
        arena->used_bytes = 0;
}

void wire_arena_release(struct wire_arena *arena)
{
        free_blocks(TAKE_PTR(arena->blocks));
        arena->used_bytes = 0;
}

int wire_send_only(struct rpc_stream *stream, const ProtobufCMessage *message)
{
        size_t len = protobuf_c_message_get_packed_size(message);
        _cleanup_free_ uint8_t *packed = malloc(MAX(len, (size_t)1));
        int r;

        if (!packed)
                return -ENOMEM;
        protobuf_c_message_pack(message, packed);
        r = rpc_stream_send(stream, packed, len);
        return r < 0 ? r : rpc_stream_close_send(stream);
}
