/*
 * SOURCE as people type it: HOST[:PORT][,HOST[:PORT]...]:/SPIDER[/PATH] or unix:PATH:/SPIDER[/PATH]; a
 * literal IPv6 address stands in brackets. Plain data once parsed.
 */
#pragma once

#include "base/buffer.h"
#include "base/failure.h"

#define SOURCE_MASTERS_MAX 16

struct source {
        char *text;                        /* owned: as typed */
        char *masters[SOURCE_MASTERS_MAX]; /* owned: "host:port", "[v6]:port" or "unix:/path" */
        size_t n_masters;
        char *spider; /* owned: one name */
        char *path;   /* owned: a workspace path below it, "" for all of it */
};

/** -EINVAL with a line in FAILURE, or -ENOMEM. RET is only set on success. */
int source_parse(const char *text, struct source *ret, struct failure *failure);

void source_release(struct source *source);

/** PATH of what is mounted, LEN bytes, as a path of the whole workspace: appended to RET, NUL-terminated. -ENOMEM. */
int source_join(const struct source *source, const char *path, size_t len, struct buffer *ret);
