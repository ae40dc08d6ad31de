/*
 * Mount options: the words after -o, parsed and checked. Those of fsyncfs are read here; the kernel's and
 * libfuse's are collected for libfuse; those that mount(8), fstab and systemd keep for themselves are
 * skipped.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/log.h"
#include "base/setting.h"
#include "cache/store.h"

#define MOUNT_CONFIG_DEFAULT "/etc/fsyncfs/client.conf"

/** Whether the kernel reads large files without this process. */
enum passthrough_mode {
        PASSTHROUGH_AUTO, /* if it pays for the tree, and can be had; the order is that of the option's choices */
        PASSTHROUGH_ON, /* if it can be had */
        PASSTHROUGH_OFF,
};

/** Whether anything is brought before it is read. */
enum prefetch_mode {
        PREFETCH_AUTO, /* the order is that of the option's choices */
        PREFETCH_OFF,
};

struct mount_options {
        char *cache_dir;       /* owned; never NULL; after mount_options_finish that of the trust domain */
        char *domain;          /* owned; NULL: none */
        bool cache_anywhere;   /* also on a file system of the network */
        char *token_file;      /* owned; NULL: no token */
        char *node_name;       /* owned; what masters show as this worker's; NULL: the machine's name */
        char *metrics;         /* owned; the file for Prometheus; NULL: none */
        char *ca, *cert, *key; /* owned; NULL: none. With `tls` only */
        bool tls;
        enum hash_algorithm hash; /* by which contents must be named; HASH_NONE: by any */
        unsigned timeout_sec;     /* of a read that needs the master, and of the mount's connection */
        unsigned retry_sec;       /* how long a mount that finds no master asks again */
        unsigned refresh_sec;     /* 0: not by the clock */
        enum prefetch_mode prefetch;
        uint64_t prefetch_rate; /* bytes a second, of what is prefetched in bulk; 0: no limit */
        bool push;              /* when the master says that there is a new version */
        int lazy_sec; /* how long a mount waits for all of a first version before it is shown in part; -1: for ever */
        struct store_limits limits; /* of the cache */
        bool offline;               /* mount the last catalog, ask no master */
        bool fallback;              /* the same if no master is there, but ask on */
        bool xattr;                 /* show user.fsyncfs.* */
        enum passthrough_mode passthrough;
        uid_t uid; /* shown as owner of everything */
        gid_t gid;
        mode_t umask;               /* permission bits taken away */
        enum log_format log_format; /* of the daemon's log */
        struct buffer kernel;       /* comma-separated, for libfuse */
};

/** The options that are fsyncfs's own, as a table; its target is a struct mount_options. */
extern const struct setting_table mount_option_table;

/** The defaults for the calling user. -ENOMEM. */
int mount_options_init(struct mount_options *options);

void mount_options_release(struct mount_options *options);

/** Reads one -o argument: a comma-separated list. -EINVAL with a line in FAILURE that names the option. */
int mount_options_parse(struct mount_options *options, const char *list, struct failure *failure);

/** The same, with SETTINGS of mount_option_table keeping what was said. */
int mount_options_take(struct settings *settings, const char *list, struct failure *failure);

/** What can be said and done only of all lists together, once: -EINVAL with a line in FAILURE; -ENOMEM. */
int mount_options_finish(struct mount_options *options, struct failure *failure);

/** Reads "4096", "512M" (K, M, G, T, P: powers of 1024) or "10%". -EINVAL for anything else. */
int mount_options_parse_amount(const char *value, struct store_amount *ret);
