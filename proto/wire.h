/*
 * The messages by hand where protobuf-c would copy: download chunks. And the arena that protobuf-c unpacks into.
 * Everything here reads hostile bytes: nothing is trusted, nothing read beyond the end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#define WIRE_PROTOCOL 1 /* the highest fsyncfs.v1 protocol this build speaks */

#define WIRE_METHOD_SCAN        "/grpc.SyncService/StreamFileScan"
#define WIRE_METHOD_DOWNLOAD    "/grpc.SyncService/StreamFileDownload"
#define WIRE_METHOD_SYNC        "/grpc.SyncService/SyncFiles"
#define WIRE_METHOD_HANDSHAKE   "/fsyncfs.v1.Workspace/Handshake"
#define WIRE_METHOD_WATCH       "/fsyncfs.v1.Workspace/Watch"
#define WIRE_METHOD_LIST_FOLDER "/fsyncfs.v1.Workspace/ListFolder"
#define WIRE_METHOD_FETCH       "/fsyncfs.v1.Workspace/Fetch"
#define WIRE_METHOD_REPORT      "/fsyncfs.v1.Workspace/Report"
#define WIRE_METHOD_LEARNED     "/fsyncfs.v1.Workspace/Learned"
#define WIRE_METHOD_ATTEND      "/fsyncfs.v1.Workspace/Attend"
#define WIRE_METHOD_FENCE       "/fsyncfs.v1.Control/Fence"

#define WIRE_METHOD_HEALTH_CHECK "/grpc.health.v1.Health/Check"
#define WIRE_METHOD_HEALTH_WATCH "/grpc.health.v1.Health/Watch"

#define WIRE_LEARNED_PATHS_MAX 4096                 /* of an AccessReport and of a LearnedReply */
#define WIRE_LEARNED_BYTES_MAX ((size_t)1000 << 10) /* of their paths, so that a report fits into a message */

#define WIRE_DOWNLOAD_HEAD_MAX 32
#define WIRE_SCAN_HEAD_MAX     160

/** A FileDownloadChunk read in place: pointers borrow from the message. */
struct wire_download_chunk {
        const uint8_t *data;
        size_t data_len;
        bool is_complete;
        const char *error; /* error_len bytes, not NUL-terminated; NULL: none */
        size_t error_len;
        int64_t total_bytes;
};

/** Reads one FileDownloadChunk; unknown fields are skipped. -EBADMSG if malformed (RET untouched). */
int wire_download_chunk_parse(const uint8_t *msg, size_t len, struct wire_download_chunk *ret);

/**
 * Writes all of a FileDownloadChunk but the data's bytes, the data's tag and length last, so that DATA_LEN bytes can follow
 * from their own buffer. Returns the bytes written to HEAD, WIRE_DOWNLOAD_HEAD_MAX at most.
 */
size_t wire_download_head(uint8_t head[WIRE_DOWNLOAD_HEAD_MAX], size_t data_len, bool is_complete,
                          int64_t total_bytes);

/** What a FileScanChunk of ours says beside its entries. Zeros are left out. */
struct wire_scan_head {
        bool is_complete, unchanged, notice;
        const uint8_t *root_digest; /* root_digest_len bytes, HASH_BYTES at most; NULL: none */
        size_t root_digest_len;
        uint64_t revision, base_revision;
        uint32_t strategy;
        uint64_t total_entries, total_bytes;
        uint64_t offset, next_offset;
        size_t pack_len; /* not 0: so many bytes of a pack follow */
};

/**
 * Writes all of a FileScanChunk but its entries, the tag and length of `pack` last: what follows from a buffer of its own is the pack, or
 * whole `files` fields. Returns the bytes written to HEAD, WIRE_SCAN_HEAD_MAX at most.
 */
size_t wire_scan_head(uint8_t head[WIRE_SCAN_HEAD_MAX], const struct wire_scan_head *chunk);

/**
 * Unpacks a message of TYPE, as protobuf-c does, but refuses one whose strings hide a NUL: protobuf-c hands them over as C strings,
 * and "a\0/../b" would be taken for "a". NULL: malformed, or beyond the allocator's limit. The caller's, by the allocator.
 */
ProtobufCMessage *wire_unpack(const ProtobufCMessageDescriptor *type, ProtobufCAllocator *allocator,
                              const uint8_t *msg, size_t len);

struct rpc_stream;

/** Sends MESSAGE over STREAM as the only one of its side, and says that no more follow. -ENOMEM; otherwise as rpc_stream_send. */
int wire_send_only(struct rpc_stream *stream, const ProtobufCMessage *message);

/** A bump allocator for protobuf-c: unpack with &arena->allocator, use, wire_arena_clear; nothing is freed singly. */
struct wire_arena {
        ProtobufCAllocator allocator;
        struct wire_arena_block *blocks; /* owned; newest first */
        size_t limit_bytes;              /* an allocation beyond it fails: a message cannot blow up memory */
        size_t used_bytes;
};

void wire_arena_init(struct wire_arena *arena, size_t limit_bytes);

/** Forgets all allocations, keeps one block for the next message. */
void wire_arena_clear(struct wire_arena *arena);

void wire_arena_release(struct wire_arena *arena);
