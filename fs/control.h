/*
 * How `fsyncfs status`, `refresh` and the like talk to a mount's daemon: a unix socket named after the
 * mount's device number, one line in, one JSON object out. Only the mount's owner may connect.
 */
#pragma once

#include <stdbool.h>

#include <jansson.h>

#include "base/failure.h"

struct filesystem;
struct control;

/** Listens for FS, which is already mounted. The socket replaces a dead one's. -errno with a line in FAILURE.
 */
int control_new(struct filesystem *fs, struct control **ret, struct failure *failure);

/** Waits for requests under way (stop the syncer first: some wait for it), removes the socket. NULL is fine. */
void control_free(struct control *control);

/**
 * Asks the daemon of the mount that PATH lies in. COMMAND: "status", "version", "refresh", "stat INO". RET is
 * the reply, the caller's (json_decref). Negative errno with a line in FAILURE: no such mount, its daemon is
 * gone, or what the reply said.
 */
int control_ask(const char *path, const char *command, json_t **ret, struct failure *failure);

/** Whether ERROR, of control_ask or control_follow, is what a caller meets while a mount's daemon is replaced. */
bool control_is_between(int error);

/** For how long that can be: longer than a keeper gives a new program. */
#define CONTROL_BETWEEN_SEC 90

/**
 * As control_ask, for a command that goes on ("prefetch INO"): EACH gets every line of the reply, borrowed, and ends it by a negative errno, which
 * is returned. 0 once the daemon says that it has finished; ends early, and with it the command, when the caller does. -EPIPE: it ended before; see control_is_between.
 */
int control_follow(const char *path, const char *command, int (*each)(json_t *line, void *arg), void *arg,
                   struct failure *failure);
