/*
 * What a master answers, through the worker's intake into a catalog: an input is one message, taken with what came before it in the catalog. Whatever it says, it
 * becomes a version only if it adds up to the digest that it names.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "proto/wire.h"
#include "sync/intake.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/folder.h"

#define SOURCE      "127.0.0.1:1:/spider"
#define MESSAGE_MAX ((size_t)1 << 20)

static struct source source;
static struct session *session;
static struct catalog *catalog;
static struct progress progress;

static void set_up(void)
{
        struct session_options options = { .source = &source, .timeout_ms = 10 };
        struct failure failure = { 0 };

        log_setup("fuzz", LOG_LEVEL_ERROR);
        assert(source_parse(SOURCE, &source, &failure) == 0);
        assert(session_new(&options, &session, &failure) == 0);
        assert(catalog_open(folder_new(), SOURCE, &catalog) == 0);
}

static void commit(struct intake *intake)
{
        struct intake_result result = { 0 };
        struct failure failure = { 0 };
        struct catalog_version version;
        uint8_t digest[HASH_BYTES];
        int r;

        intake_get_digest(intake, digest);
        r = intake_commit(intake, true, &result, &failure);
        if (r != 0)
                return;
        catalog_get_version(catalog, &version);
        assert(version.valid && memcmp(version.digest, digest, HASH_BYTES) == 0); /* promise 8 */
        catalog_changes_release(&result.changes);
}

static void take(const Grpc__FileScanChunk *chunk)
{
        const struct intake_options options = { .session = session,
                                                .catalog = catalog,
                                                .progress = &progress };
        struct failure failure = { 0 };
        struct intake *intake;
        uint64_t base, revision, offset;
        int r;

        assert(intake_new(&options, &intake) == 0);
        r = intake_take(intake, chunk, &failure);
        assert(r == 0 || failure.text[0] || r == -EBADMSG);
        (void)intake_can_resume(intake, &base, &revision, &offset);
        if (r == 0 && intake_get_state(intake) == INTAKE_COMPLETE)
                commit(intake);
        intake_free(intake);
}

void fuzz_one(const uint8_t *data, size_t len)
{
        Grpc__FileScanChunk *chunk;
        struct wire_arena arena;

        if (!session)
                set_up();
        wire_arena_init(&arena, MESSAGE_MAX);
        chunk = (Grpc__FileScanChunk *)wire_unpack(&grpc__file_scan_chunk__descriptor, &arena.allocator, data,
                                                   len);
        if (chunk)
                take(chunk);
        wire_arena_release(&arena);
}
