/*
 * What the services of one master share, and the table of its methods. Everything is borrowed from main, set before the
 * server starts and not changed after.
 */
#pragma once

#include "proto/rpc.h"
#include "server/blocks.h"
#include "server/content_cache.h"
#include "server/fleet.h"
#include "server/health.h"
#include "server/learned.h"
#include "server/parked.h"
#include "server/pool.h"
#include "server/spool.h"
#include "server/stock.h"
#include "server/token_file.h"
#include "server/turns.h"
#include "server/versions.h"
#include "server/watches.h"
#include "server/workers.h"
#include "server/workspace.h"

struct master {
        struct workspace_root *root;
        struct pool *pool;
        struct pool *
                readers; /* for reads of a moment only: they must not wait until a pass has hashed a large file */
        struct turns *hashings, *gatherings; /* of `pool` */
        struct parked *parked;
        struct versions *versions;
        struct stock_views *stock;
        struct spools *spools;
        struct watches *watches;
        struct learned *learned;
        struct blocks *blocks;
        struct content_cache *contents;
        struct workers *workers;
        struct fleet *fleet;
        struct health *health;
        struct token_file *tokens; /* NULL: everybody may call */
        int64_t scan_ttl_ms;       /* how old a listing stock workers may get */
        int64_t started_sec;       /* time of day */
        const char *name;          /* of this machine */
        const char *address;       /* HOST:PORT that workers can use; "": none */
};

/** Sets the methods, hooks and limits of a server for MASTER, whose process may have so many DESCRIPTORS. */
void master_rpc_options(struct master *master, unsigned descriptors, struct rpc_server_options *ret);
