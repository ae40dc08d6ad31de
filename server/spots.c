#include "server/spots.h"

#include <string.h>

#include "base/buffer.h"
#include "base/path.h"

static struct spot *spot_new(const char *name, size_t len)
{
        struct spot *spot = calloc(1, sizeof(*spot) + len + 1);

        if (!spot)
                return NULL;
        memcpy(spot->name, name, len);
        spot->name_len = len;
        return spot;
}

/* Recursion as deep as a path has names, 2,048 at most, in small frames. */
static void spot_free(struct spot *spot)
{
        struct spot *child, *next;

        HASH_ITER (hh, spot->children, child, next) {
                HASH_DEL(spot->children, child);
                spot_free(child);
        }
        free(spot);
}

void spots_clear(struct spots *spots)
{
        if (spots->root)
                spot_free(spots->root);
        *spots = (struct spots){ 0 };
}

/* The child NAME of PARENT, made if need be; NULL: no memory. */
static struct spot *step_down(struct spots *spots, struct spot *parent, const char *name, size_t len)
{
        struct spot *spot = (struct spot *)spot_find(parent, name, len);

        if (spot)
                return spot;
        spot = spot_new(name, len);
        if (!spot)
                return NULL;
        HASH_ADD_KEYPTR(hh, parent->children, spot->name, spot->name_len, spot);
        if (!spot->hh.tbl) { /* no memory for the table */
                free(spot);
                return NULL;
        }
        spots->count++;
        return spot;
}

int spots_add(struct spots *spots, const char *path, const char *name, bool suspect)
{
        size_t left = strlen(path), len;
        const char *component;
        struct spot *spot;

        if (spots->count >= (suspect ? 2 * SPOTS_MAX : SPOTS_MAX))
                return -E2BIG;
        if (!spots->root)
                spots->root = spot_new("", 0);
        spot = spots->root;
        while (spot && path_next(&path, &left, &component, &len))
                spot = step_down(spots, spot, component, len);
        if (spot && name)
                spot = step_down(spots, spot, name, strlen(name));
        if (!spot)
                return -ENOMEM;
        spot->told = true;
        spot->all = spot->all || !name;
        spot->suspect = spot->suspect || (suspect && name);
        return 0;
}

const struct spot *spots_find(const struct spots *spots, const char *path, const char *name)
{
        const struct spot *spot = spots->root;
        size_t left = strlen(path), len;
        const char *component;

        while (spot && path_next(&path, &left, &component, &len))
                spot = spot_find(spot, component, len);
        return spot_find(spot, name, strlen(name));
}

static bool keep_suspects(struct spots *spots, const struct spot *spot, struct buffer *path)
{
        size_t len = path->len;
        bool any = false;

        for (const struct spot *child = spot->children; child; child = child->hh.next) {
                if (child->suspect && spots_add(spots, path->data ? path->data : "", child->name, true) >= 0)
                        any = true;
                if (!child->children || buffer_printf(path, "%s%s", len > 0 ? "/" : "", child->name) < 0)
                        continue;
                any = keep_suspects(spots, child, path) || any;
                buffer_truncate(path, len);
        }
        return any;
}

bool spots_keep_suspects(struct spots *spots, const struct spots *from)
{
        _cleanup_buffer_ struct buffer path = { 0 };

        return from->root && keep_suspects(spots, from->root, &path);
}
