/*
 * Where an export goes: a folder (export_folder.c) or a tar stream (export_tar.c), behind one interface. Calls come in the tree's order, from one thread: an entry's
 * folder is entered before it and left after it. All return 0 or a negative errno, with a line in FAILURE if the number says too little.
 */
#pragma once

#include "base/failure.h"
#include "cache/catalog.h"

/** What is put. All borrowed. */
struct export_item {
        const struct catalog_entry *entry;
        const char *path; /* below the target; "" for the top */
        const char *link; /* a symlink's target */
};

struct export_target {
        /** Mandatory. Makes the folder, or says that it is there. */
        int (*enter)(struct export_target *target, const struct export_item *item, struct failure *failure);
        /** Mandatory. Everything in the folder was put: its mode and time may be set. */
        int (*leave)(struct export_target *target, const struct export_item *item, struct failure *failure);
        /** Mandatory. */
        int (*symlink)(struct export_target *target, const struct export_item *item, struct failure *failure);
        /** Optional. True: the file is there already, with just this content; mode and time have been set. May read it. */
        bool (*has)(struct export_target *target, const struct export_item *item);
        /** Mandatory. A file begins. Called again for another content of the same file if `restart` says that it may be. */
        int (*begin)(struct export_target *target, const struct export_item *item, struct failure *failure);
        /** Mandatory. Its next bytes. */
        int (*data)(struct export_target *target, const void *data, size_t len);
        /** Mandatory. Drops what has come of the file. -ESPIPE: that cannot be taken back. */
        int (*restart)(struct export_target *target);
        /** Mandatory. All of its bytes have come. */
        int (*end)(struct export_target *target, struct failure *failure);
        /** Mandatory. OK: nothing is missing. Frees the target. */
        int (*finish)(struct export_target *target, bool ok);
};

/** Into folder DIR, made if it is missing. -errno with a line in FAILURE. */
int export_folder_new(const char *dir, struct export_target **ret, struct failure *failure);

/** As a tar stream (pax) to descriptor FD, borrowed. -ENOMEM. */
int export_tar_new(int fd, struct export_target **ret);
