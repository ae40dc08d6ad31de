/*
 * What the watcher's tests share: a workspace root with one spider, and a small scanner, a model of the tree that is brought up to date only
 * where the watcher says, by the rules that the real scanner follows. More may be told than happened, less may not.
 */
#pragma once

#include <sys/stat.h>

#include "base/lock.h"
#include "base/path.h"
#include "server/watcher.h"
#include "tests/unit/unit.h"

#define SPIDER "sp"

struct spot {
        char spider[64], path[512], name[PATH_NAME_MAX + 1];
        bool whole; /* no name */
};

struct row;

struct fixture {
        enum watcher_kind kind;
        char base[64]; /* holds all of it */
        bool mounted; /* it is a file system of its own: fanotify tells of all that others do on one, which would count */
        char spider[128]; /* the spider's folder */
        struct watcher *watcher;
        struct mutex lock;
        struct condition gate_moved;
        bool gate_closed, in_gate; /* `changed` waits as long as it is closed */
        struct spot *spots;
        size_t n_spots, spots_capacity;
        unsigned lost_all, lost_spider, told;
        struct row *rows;
        size_t n_rows, rows_capacity;
};

/** Writes "PATH/NAME", or the one of both that is not empty. */
void join(char *out, size_t size, const char *path, const char *name);

/** Make and remove the folders; *STATE is the kind at first. No watcher yet. */
int set_up(void **state);
int tear_down(void **state);

/** Starts a watcher of f->kind; the result of watcher_new. */
int start(struct fixture *f, unsigned drop_percent);

/** The same, and has all that is there watched. False: not permitted here. */
bool begin(struct fixture *f);

#define BEGIN(f)                                                                                             \
        do {                                                                                                 \
                if (!begin(f))                                                                               \
                        unit_skip("fanotify needs CAP_SYS_ADMIN");                                           \
        } while (0)

/** Runs a command of the shell's in the spider's folder. */
void run(const struct fixture *f, const char *command);

/** Drains, looks where the watcher said, and compares the model with the disk. */
void sync_model(struct fixture *f);

/** A command, and what it did is in the model afterwards. */
void after(struct fixture *f, const char *command);

/** The same, and it is told as NAME ("": none) in PATH. */
void tells(struct fixture *f, const char *command, const char *path, const char *name);

/** What was told since the model was brought up to date. */
bool was_told(struct fixture *f, const char *path, const char *name);

/** How many calls there were since forget_told. */
unsigned told(struct fixture *f);
unsigned lost_all(struct fixture *f);
unsigned lost_spider(struct fixture *f);
void forget_told(struct fixture *f);

/** The reader is held in the middle of telling of `first`, until the gate is opened: what follows stays in the kernel's queue. */
void hold_reader(struct fixture *f);
void set_gate(struct fixture *f, bool closed);

/** Adds the folder and all below it to the model; with a watcher the way that a scanner does: watched before read. */
void walk(struct fixture *f, const char *path, struct watcher *watcher);

/** Takes it, and all below it, out of the model. */
void rows_remove(struct fixture *f, const char *path);
