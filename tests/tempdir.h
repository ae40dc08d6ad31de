/*
 * The folders that tests make for themselves.
 */
#pragma once

#include <fts.h>
#include <stdio.h>

/* What lies at least LEVEL folders below PATH. By fts(3), which goes into the folders: their paths may be longer than any that can be said. */
static inline int tempdir_clear(const char *path, int level)
{
        char *const paths[] = { (char *)path, NULL };
        FTS *fts = fts_open(paths, FTS_PHYSICAL, NULL);
        FTSENT *entry;
        int r = fts ? 0 : -1;

        while (fts && (entry = fts_read(fts)))
                if (entry->fts_info != FTS_D && entry->fts_level >= level && remove(entry->fts_accpath) < 0)
                        r = -1;
        if (fts)
                fts_close(fts);
        return r;
}

/** Removes PATH and all that is in it. 0, or -1: some of it is there still. */
static inline int tempdir_remove(const char *path)
{
        return tempdir_clear(path, 0);
}

/** Removes all that is in PATH. As tempdir_remove. */
static inline int tempdir_empty(const char *path)
{
        return tempdir_clear(path, 1);
}
