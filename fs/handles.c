#include "fs/handles.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

#define SLOT_BITS   22
#define SLOTS_MAX   ((size_t)1 << SLOT_BITS)
#define SLOTS_FIRST 1024u

/* A number is SEQUENCE << SLOT_BITS | slot. As it lies in the file: `number` is written last when a handle comes, and first when it goes. */
struct slot {
        struct handle handle;
        _Atomic uint64_t number; /* 0: free */
        uint64_t sequence;       /* of the number used last */
};

struct handles {
        int fd;             /* borrowed */
        struct slot *slots; /* the file, mapped */
        size_t n;
        uint32_t *free; /* owned: room for n, the slots that are free */
        size_t n_free;
};

static int map_slots(struct handles *h, size_t n)
{
        uint32_t *free_slots = reallocarray(h->free, n, sizeof(*free_slots));
        void *slots;

        if (!free_slots)
                return -ENOMEM;
        h->free = free_slots;
        slots = mmap(NULL, n * sizeof(*h->slots), PROT_READ | PROT_WRITE, MAP_SHARED, h->fd, 0);
        if (slots == MAP_FAILED)
                return -errno;
        if (h->slots)
                munmap(h->slots, h->n * sizeof(*h->slots));
        h->slots = slots;
        for (size_t i = n; i-- > h->n;)
                if (atomic_load(&h->slots[i].number) == 0)
                        h->free[h->n_free++] = (uint32_t)i;
        h->n = n;
        return 0;
}

static int grow(struct handles *h)
{
        size_t n = MAX(h->n * 2, (size_t)SLOTS_FIRST);

        if (n > SLOTS_MAX)
                return -ENFILE;
        if (ftruncate(h->fd, (off_t)(n * sizeof(*h->slots))) < 0)
                return -errno;
        return map_slots(h, n);
}

int handles_new(int fd, struct handles **ret)
{
        struct handles *h = calloc(1, sizeof(*h));
        struct stat st;
        int r;

        if (!h)
                return -ENOMEM;
        h->fd = fd;
        r = fstat(fd, &st) < 0 ? -errno : 0;
        if (r == 0 && st.st_size > 0)
                r = map_slots(h, (size_t)st.st_size / sizeof(*h->slots));
        if (r < 0)
                handles_free(h);
        else
                *ret = h;
        return r;
}

void handles_free(struct handles *handles)
{
        if (!handles)
                return;
        if (handles->slots)
                munmap(handles->slots, handles->n * sizeof(*handles->slots));
        free(handles->free);
        free(handles);
}

int handles_add(struct handles *handles, const struct handle *handle, uint64_t *ret_number)
{
        struct slot *slot;
        uint32_t index;
        int r = handles->n_free > 0 ? 0 : grow(handles);

        if (r < 0)
                return r;
        index = handles->free[--handles->n_free];
        slot = &handles->slots[index];
        slot->handle = *handle;
        slot->sequence++;
        *ret_number = slot->sequence << SLOT_BITS | index;
        atomic_store(&slot->number, *ret_number);
        return 0;
}

bool handles_remove(struct handles *handles, uint64_t number, struct handle *ret)
{
        size_t index = number & (SLOTS_MAX - 1);
        struct slot *slot;

        if (number == 0 || index >= handles->n || atomic_load(&handles->slots[index].number) != number)
                return false;
        slot = &handles->slots[index];
        *ret = slot->handle;
        atomic_store(&slot->number, 0);
        handles->free[handles->n_free++] = (uint32_t)index;
        return true;
}

bool handles_find(struct handles *handles, uint64_t unique, uint64_t *ret_number, struct handle *ret)
{
        for (size_t i = 0; i < handles->n; i++) {
                struct slot *slot = &handles->slots[i];
                uint64_t number = atomic_load(&slot->number);

                if (number != 0 && slot->handle.unique == unique) {
                        *ret_number = number;
                        *ret = slot->handle;
                        return true;
                }
        }
        return false;
}

int handles_each(struct handles *handles, int (*each)(const struct handle *handle, void *arg), void *arg)
{
        int r = 0;

        for (size_t i = 0; i < handles->n && r >= 0; i++)
                if (atomic_load(&handles->slots[i].number) != 0)
                        r = each(&handles->slots[i].handle, arg);
        return MIN(r, 0);
}
