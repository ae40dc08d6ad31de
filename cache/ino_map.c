#include "cache/ino_map.h"

#include <string.h>

#define PAGE_BITS 16
#define PAGE_SIZE ((size_t)1 << PAGE_BITS)

void ino_map_release(struct ino_map *map)
{
        for (size_t i = 0; i < map->n_pages; i++)
                free(map->pages[i]);
        free(map->pages);
        *map = (struct ino_map){ 0 };
}

uint8_t ino_map_get(const struct ino_map *map, uint64_t ino)
{
        uint64_t page = ino >> PAGE_BITS;

        return page < map->n_pages && map->pages[page] ? map->pages[page][ino & (PAGE_SIZE - 1)] : 0;
}

static int grow(struct ino_map *map, uint64_t page)
{
        size_t n_pages = MAX((size_t)page + 1, map->n_pages * 2);
        uint8_t **pages;

        if (page < map->n_pages)
                return 0;
        /* Not realloc: what calloc gives zeroed costs nothing until it is touched. */
        pages = calloc(n_pages, sizeof(*pages));
        if (!pages)
                return -ENOMEM;
        if (map->n_pages > 0)
                memcpy(pages, map->pages, map->n_pages * sizeof(*pages));
        free(map->pages);
        map->pages = pages;
        map->n_pages = n_pages;
        return 0;
}

int ino_map_set(struct ino_map *map, uint64_t ino, uint8_t flags)
{
        uint64_t page = ino >> PAGE_BITS;
        int r = grow(map, page);

        if (r < 0)
                return r;
        if (!map->pages[page])
                map->pages[page] = calloc(1, PAGE_SIZE);
        if (!map->pages[page])
                return -ENOMEM;
        map->pages[page][ino & (PAGE_SIZE - 1)] = flags;
        return 0;
}
