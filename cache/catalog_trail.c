#include "cache/catalog_trail.h"

int trail_init(struct trail *trail, uint64_t ino)
{
        *trail = (struct trail){ .capacity = 16 };
        trail->steps = calloc(trail->capacity, sizeof(*trail->steps));
        if (!trail->steps)
                return -ENOMEM;
        trail->steps[0].ino = ino;
        return 0;
}

void trail_release(struct trail *trail)
{
        buffer_release(&trail->path);
        free(trail->steps);
        *trail = (struct trail){ 0 };
}

const struct trail_step *trail_top(const struct trail *trail)
{
        return &trail->steps[trail->depth];
}

void trail_go_up(struct trail *trail, const char *path, size_t len)
{
        size_t same = 0, step;

        while (same < len && same < trail->path.len && path[same] == trail->path.data[same])
                same++;
        for (;; trail->depth--) {
                step = trail_top(trail)->path_len;
                if (step == 0 || (step <= same && (step == len || path[step] == '/')))
                        break;
        }
        buffer_truncate(&trail->path, step);
}

int trail_go_down(struct trail *trail, const char *name, size_t name_len, uint64_t ino)
{
        int r = buffer_reserve(&trail->path, name_len + 1);

        if (r < 0)
                return r;
        if (trail->depth + 1 == trail->capacity) {
                struct trail_step *steps = reallocarray(trail->steps, trail->capacity * 2, sizeof(*steps));
                if (!steps)
                        return -ENOMEM;
                trail->steps = steps;
                trail->capacity *= 2;
        }
        if (trail->path.len > 0)
                (void)buffer_append(&trail->path, "/", 1); /* room was reserved */
        (void)buffer_append(&trail->path, name, name_len);
        trail->depth++;
        trail->steps[trail->depth] = (struct trail_step){ .path_len = trail->path.len, .ino = ino };
        return 0;
}

void trail_set_whole(struct trail *trail)
{
        trail->steps[trail->depth].whole = true;
}
