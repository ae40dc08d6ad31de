/* What a peer's messages may do to the parsers of proto/: nothing but be refused. */
#include <assert.h>
#include <string.h>

#include "base/path.h"
#include "proto/control.pb-c.h"
#include "proto/health.pb-c.h"
#include "proto/sync_service.pb-c.h"
#include "proto/wire.h"
#include "proto/workspace.pb-c.h"
#include "tests/fuzz/driver.h"

#define ARENA_BYTES ((size_t)1 << 20)

static void parse_chunk(const uint8_t *data, size_t len)
{
        struct wire_download_chunk chunk;

        if (wire_download_chunk_parse(data, len, &chunk) < 0)
                return;
        /* What it points at lies within the message. */
        assert(chunk.data_len == 0 || (chunk.data >= data && chunk.data + chunk.data_len <= data + len));
        assert(!chunk.error || ((const uint8_t *)chunk.error >= data &&
                                (const uint8_t *)chunk.error + chunk.error_len <= data + len));
}

/* Every message that either side unpacks so; those of bulk have readers of their own (fuzz_fetch, fuzz_pack). */
static void unpack(const uint8_t *data, size_t len)
{
        static const ProtobufCMessageDescriptor *const messages[] = {
                &grpc__file_sync_request__descriptor,
                &grpc__file_scan_chunk__descriptor,
                &grpc__file_download_request__descriptor,
                &grpc__health__v1__health_check_request__descriptor,
                &fsyncfs__v1__handshake_request__descriptor,
                &fsyncfs__v1__handshake_reply__descriptor,
                &fsyncfs__v1__folder_request__descriptor,
                &fsyncfs__v1__access_report__descriptor,
                &fsyncfs__v1__learned_request__descriptor,
                &fsyncfs__v1__learned_reply__descriptor,
                &fsyncfs__v1__presence__descriptor,
                &fsyncfs__v1__notice__descriptor,
                &fsyncfs__v1__fence_request__descriptor,
                &fsyncfs__v1__fence_reply__descriptor,
        };
        struct wire_arena arena;

        wire_arena_init(&arena, ARENA_BYTES);
        for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
                (void)wire_unpack(messages[i], &arena.allocator, data, len);
                assert(arena.used_bytes <= ARENA_BYTES);
                wire_arena_clear(&arena);
        }
        wire_arena_release(&arena);
}

void fuzz_one(const uint8_t *data, size_t len)
{
        parse_chunk(data, len);
        unpack(data, len);
}
