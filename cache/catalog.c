#include "cache/catalog.h"

#include <assert.h>
#include <string.h>

#include "cache/catalog_private.h"

/* CLAIM: NULL, or of who had it before. */
static int open_catalog(const char *dir, const char *source, const struct catalog_claim *claim,
                        struct catalog **ret)
{
        struct catalog *catalog = calloc(1, sizeof(*catalog));
        struct db_version version;
        int r;

        if (!catalog)
                return -ENOMEM;
        mutex_init(&catalog->mutex);
        mutex_init(&catalog->load_lock);
        condition_init(&catalog->load_turn);
        condition_init(&catalog->readers_changed);
        catalog->slot = (struct catalog_slot){ .dir_fd = -1, .lock_fd = -1 };
        r = claim ? catalog_slot_inherit(dir, source, claim, &catalog->slot)
                  : catalog_slot_take(dir, source, &catalog->slot);
        if (r == 0)
                r = claim ? catalog_slot_reopen(&catalog->slot, &catalog->writer, &version)
                          : catalog_slot_open(&catalog->slot, &catalog->writer, &version);
        if (r < 0) {
                catalog_free(catalog);
                return r;
        }
        mutex_lock(&catalog->mutex);
        catalog->version = version;
        mutex_unlock(&catalog->mutex);
        atomic_store(&catalog->generation, version.shown.generation);
        *ret = catalog;
        return 0;
}

int catalog_open(const char *dir, const char *source, struct catalog **ret)
{
        return open_catalog(dir, source, NULL, ret);
}

int catalog_take_over(const char *dir, const char *source, const struct catalog_claim *claim,
                      struct catalog **ret)
{
        return open_catalog(dir, source, claim, ret);
}

void catalog_get_claim(const struct catalog *catalog, struct catalog_claim *ret)
{
        *ret = (struct catalog_claim){ .lock_fd = catalog->slot.lock_fd, .slot = catalog->slot.number };
}

void catalog_free(struct catalog *catalog) TSA_NONE;
void catalog_free(struct catalog *catalog)
{
        if (!catalog)
                return;
        assert(!catalog->writing);
        catalog_readers_free(catalog);
        free(catalog->unheld.items);
        if (catalog->writer && db_log_pages(catalog->writer) >= LOG_PAGES)
                (void)db_truncate_log(catalog->writer); /* readers may have held it up */
        db_close(catalog->writer);
        catalog_slot_release(&catalog->slot);
        condition_release(&catalog->readers_changed);
        condition_release(&catalog->load_turn);
        mutex_release(&catalog->load_lock);
        mutex_release(&catalog->mutex);
        free(catalog);
}

int catalog_note_damage(struct catalog *catalog, int r)
{
        if (r == -EBADMSG && !atomic_exchange(&catalog->suspect, true))
                catalog_slot_suspect(&catalog->slot);
        return r;
}

/* ---- the writer ---- */

int catalog_writer_take(struct catalog *catalog, struct db_version *ret_version)
{
        int r = -EBUSY;

        mutex_lock(&catalog->mutex);
        if (!catalog->writing) {
                catalog->writing = true;
                *ret_version = catalog->version;
                r = 0;
        }
        mutex_unlock(&catalog->mutex);
        if (r < 0)
                return r;
        r = db_begin(catalog->writer);
        if (r < 0) {
                mutex_lock(&catalog->mutex);
                catalog->writing = false;
                mutex_unlock(&catalog->mutex);
        }
        return catalog_note_damage(catalog, r);
}

void catalog_publish(struct catalog *catalog, const struct db_version *version)
{
        mutex_lock(&catalog->mutex);
        catalog->version = *version;
        atomic_store(&catalog->generation, version->shown.generation);
        mutex_unlock(&catalog->mutex);
}

int catalog_writer_give(struct catalog *catalog, const struct db_version *version, int r)
{
        if (r == 0 && version)
                r = db_write_version(catalog->writer, version);
        if (r == 0 && version)
                r = db_commit(catalog->writer);
        if (r != 0 || !version)
                db_rollback(catalog->writer);
        if (r == 0 && version)
                catalog_publish(catalog, version);
        catalog_checkpoint(catalog, LOG_PAGES);
        db_release_memory(catalog->writer);
        mutex_lock(&catalog->mutex);
        catalog->writing = false;
        mutex_unlock(&catalog->mutex);
        return catalog_note_damage(catalog, r);
}

int catalog_touch(struct catalog *catalog, uint64_t revision)
{
        struct db_version version;
        int r = catalog_writer_take(catalog, &version);

        if (r < 0)
                return r;
        if (!version.shown.valid)
                r = -EINVAL;
        version.shown.revision = revision;
        version.shown.synced_at = clock_wall_sec();
        return catalog_writer_give(catalog, &version, r);
}

void catalog_get_version(struct catalog *catalog, struct catalog_version *ret)
{
        mutex_lock(&catalog->mutex);
        *ret = catalog->version.shown;
        mutex_unlock(&catalog->mutex);
}
