/*
 * How a failed request is put to the peer: errno to status, and a sentence that says what was wrong with what it asked for.
 */
#pragma once

#include "base/log.h"
#include "proto/rpc.h"
#include "server/workspace.h"

#define REPLY_MAX 256

/** The status for an errno of workspace.h, of a scan or of a read. */
enum rpc_code reply_code(int error);

/** How loud the log says it: what a peer asked for wrongly is news, what failed here is a warning. */
enum log_level reply_level(int error);

/** Writes why PATH of SPIDER could not be had. Valid UTF-8, whatever the names hold. */
void reply_explain(const struct workspace_root *root, const char *spider, const char *path, int error,
                   char buf[REPLY_MAX]);
