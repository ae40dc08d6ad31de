/*
 * The mounts that attend (Workspace.Attend): who they are, and which version each shows. For those who look on: the status page, the metrics and
 * Control.Fence. Thread-safe; a leaf lock but for rpc_call_wake.
 */
#pragma once

#include <stdbool.h>

#include "base/hash.h"
#include "base/path.h"
#include "proto/rpc.h"

#define FLEET_TEXT_MAX 128

struct fleet;
struct fleet_member;

/** One mount. What its worker says of itself is hostile: printable, but no more is known of it. */
struct fleet_mount {
        char node[FLEET_TEXT_MAX];    /* the worker's name for itself */
        char version[FLEET_TEXT_MAX]; /* of its program */
        char address[FLEET_TEXT_MAX];
        char key[FLEET_TEXT_MAX]; /* what it was let in with: access_name */
        char spider[PATH_NAME_MAX + 1];
        char *path; /* what is mounted within the workspace; owned */
        bool shows; /* it has said what: */
        uint8_t digest[HASH_BYTES];
        uint64_t revision;
        int64_t since_sec; /* time of day at which it came */
};

/** Who is woken whenever anything here changes; embedded. */
struct fleet_watcher {
        struct rpc_call *call; /* set by the owner, who holds a reference */
        struct fleet_watcher *prev, *next;
};

/** -ENOMEM. */
int fleet_new(struct fleet **ret);

/** Nobody may be left in it. NULL is fine. */
void fleet_free(struct fleet *fleet);

/** MOUNT comes; copied. NULL: no memory. */
struct fleet_member *fleet_join(struct fleet *fleet, const struct fleet_mount *mount);

/** From now on MEMBER shows DIGEST, which it says is of REVISION. */
void fleet_show(struct fleet *fleet, struct fleet_member *member, const uint8_t digest[HASH_BYTES],
                uint64_t revision);

/** MEMBER goes, and is freed. NULL is fine. */
void fleet_leave(struct fleet *fleet, struct fleet_member *member);

/**
 * The first MAX of those that mount SPIDER (NULL: of all), in the order in which they came: how many are in RET, a list for fleet_list_free; RET_ALL (may be
 * NULL) gets how many there are. -ENOMEM.
 */
int fleet_list(struct fleet *fleet, const char *spider, size_t max, struct fleet_mount **ret,
               size_t *ret_all);

void fleet_list_free(struct fleet_mount *list, size_t n);

void fleet_watch(struct fleet *fleet, struct fleet_watcher *watcher);
void fleet_unwatch(struct fleet *fleet, struct fleet_watcher *watcher);

/** Wakes all watchers: something that they look at beside this may have changed. */
void fleet_wake(struct fleet *fleet);
