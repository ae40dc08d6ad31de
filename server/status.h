/*
 * What an operator wants to see of a master at a glance, as JSON: /status.json, and what the page shows (server/page.h). No secret is in it; names of
 * spiders and workers are.
 */
#pragma once

#include <jansson.h>

#include "proto/rpc.h"
#include "server/master.h"

#define STATUS_ROWS_MAX 200 /* of each table; how many there are is said beside them */

/** Takes a sample of what is counted, for the rates: now and then. From one thread. */
void status_sample(void);

/** All of it. NULL: out of memory. The caller's. Looks into workspaces' trees. Any thread. */
json_t *status_json(const struct master *master, const struct rpc_server *rpc);

#define STATUS_LINE_MAX 320

/** Whether the server serves and for whom, or why it does not, in one line for people. Returns whether it serves. */
bool status_line(const struct master *master, char ret[STATUS_LINE_MAX]);

/** A version's digest as `fsyncfs version` prints it: as long as the hash that it is of. */
void status_format_version(const uint8_t digest[HASH_BYTES], char ret[2 * HASH_BYTES + 1]);
