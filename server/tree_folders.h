/*
 * A set of folders by id, with the way from each up to the root: what a commit must renew, and what a difference must visit.
 * Not thread-safe. A zeroed struct is an empty set. Nodes are named by their index, which stays; pointers to them do not.
 */
#pragma once

#include "server/tree_db.h"

#define TREE_FOLDER_NONE UINT32_MAX

struct tree_folder {
        uint64_t id, parent;
        size_t name; /* where in `names` */
        uint16_t name_len;
        bool known;     /* parent and name were read */
        bool lost;      /* it, or a folder above it, is not there (any more) */
        bool marked;    /* the owner's */
        uint32_t above; /* the node of its parent; TREE_FOLDER_NONE for the root and if there is none */
        uint32_t depth; /* the root's is 0; TREE_FOLDER_NONE: not yet reckoned */
};

struct tree_folders {
        struct tree_folder *items; /* owned */
        uint32_t n, capacity;
        uint32_t *slots; /* owned: a hash table of indices + 1; 0: free */
        size_t n_slots;
        struct buffer names;
};

void tree_folders_release(struct tree_folders *set);

/** The node of folder ID; TREE_FOLDER_NONE. */
uint32_t tree_folders_find(const struct tree_folders *set, uint64_t id);

/** The node of folder ID, made if need be. -ENOMEM. */
int tree_folders_add(struct tree_folders *set, uint64_t id, uint32_t *ret);

const char *tree_folders_name(const struct tree_folders *set, const struct tree_folder *folder);

/** Adds the ancestors of all that is in the set; afterwards every node is complete. -EBADMSG: folders lie in a circle. */
int tree_folders_climb(struct tree_folders *set, struct tree_db *db);
