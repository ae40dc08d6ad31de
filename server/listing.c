#include "server/listing.h"

#include <stdatomic.h>
#include <string.h>

struct listing *listing_new(void)
{
        struct listing *listing = calloc(1, sizeof(*listing));

        if (!listing)
                return NULL;
        listing->refs = 1;
        listing->root.name = "";
        listing->root.kind = ENTRY_DIRECTORY;
        return listing;
}

struct listing *listing_ref(struct listing *listing)
{
        atomic_fetch_add(&listing->refs, 1);
        return listing;
}

/* Recursion as deep as the tree, which a path's length bounds to 2,048 levels of a small frame. */
static void node_release(struct listing_node *node)
{
        if (node->kind == ENTRY_DIRECTORY)
                listing_folder_free(node->folder);
        else if (node->kind == ENTRY_SYMLINK)
                free(node->target);
}

void listing_folder_free(struct listing_folder *folder)
{
        if (!folder)
                return;
        for (uint32_t i = 0; i < folder->count; i++)
                node_release(&folder->nodes[i]);
        free(folder->nodes);
        free(folder->names);
        free(folder);
}

void listing_unref(struct listing *listing)
{
        if (!listing || atomic_fetch_sub(&listing->refs, 1) != 1)
                return;
        node_release(&listing->root);
        free(listing);
}

void listing_cursor_init(struct listing_cursor *cursor, struct listing *listing)
{
        *cursor = (struct listing_cursor){ .listing = listing_ref(listing) };
}

void listing_cursor_release(struct listing_cursor *cursor)
{
        listing_unref(TAKE_PTR(cursor->listing));
        free(TAKE_PTR(cursor->steps));
        cursor->depth = cursor->capacity = 0;
}

static int step_down(struct listing_cursor *cursor, const struct listing_folder *folder)
{
        if (cursor->depth == cursor->capacity) {
                size_t capacity = cursor->capacity ? 2 * cursor->capacity : 16;
                struct listing_step *steps = reallocarray(cursor->steps, capacity, sizeof(*steps));
                if (!steps)
                        return -ENOMEM;
                cursor->steps = steps;
                cursor->capacity = capacity;
        }
        cursor->steps[cursor->depth++] = (struct listing_step){
                .folder = folder,
                .path_len = cursor->path_len,
        };
        return 0;
}

/* The scanner leaves out what would not fit into a path. */
static void set_path(struct listing_cursor *cursor, size_t parent_len, const struct listing_node *node)
{
        char *p = cursor->path + parent_len;

        if (parent_len > 0)
                *p++ = '/';
        memcpy(p, node->name, node->name_len + 1u);
        cursor->path_len = (size_t)(p - cursor->path) + node->name_len;
}

int listing_cursor_next(struct listing_cursor *cursor, const struct listing_node **ret_node)
{
        const struct listing_node *node = NULL;

        if (!cursor->started) {
                cursor->started = true;
                node = &cursor->listing->root;
        }
        while (!node && cursor->depth > 0) {
                struct listing_step *step = &cursor->steps[cursor->depth - 1];
                if (step->next == step->folder->count) {
                        cursor->depth--;
                        continue;
                }
                node = &step->folder->nodes[step->next++];
                set_path(cursor, step->path_len, node);
        }
        if (node && node->kind == ENTRY_DIRECTORY && node->folder) {
                int r = step_down(cursor, node->folder);
                if (r < 0)
                        return r;
        }
        *ret_node = node;
        return 0;
}
