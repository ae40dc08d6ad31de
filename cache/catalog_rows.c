#include "cache/catalog_db_private.h"

/* ---- the version ---- */

int db_read_version(struct db *db, struct db_version *ret)
{
        struct db_version v = { 0 };
        uint64_t loading = 0;
        uint64_t *const numbers[] = { &v.shown.revision,
                                      &v.shown.generation,
                                      (uint64_t *)&v.shown.synced_at,
                                      &v.shown.files,
                                      &v.shown.directories,
                                      &v.shown.symlinks,
                                      &v.shown.unknown,
                                      &v.shown.bytes,
                                      &v.next_ino,
                                      &v.rows,
                                      &loading,
                                      &v.load_offset,
                                      &v.load_folder,
                                      &v.load_rows,
                                      &v.load_pending,
                                      &v.load_open };
        size_t digest_len = 0;
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_VERSION, &r);

        if (!statement)
                return r;
        r = sqlite3_step(statement);
        if (r == SQLITE_ROW) {
                v.shown.valid = sqlite3_column_int(statement, 0) != 0;
                r = column_hash(statement, 1, v.shown.digest, &digest_len);
                v.shown.hash = hash_of_len(digest_len);
                for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                        *numbers[i] = (uint64_t)sqlite3_column_int64(statement, (int)i + 2);
                v.shown.loading = loading != 0;
        } else {
                r = r == SQLITE_DONE ? -EBADMSG : db_error(db, r);
        }
        sqlite3_reset(statement);
        if (r == 0)
                *ret = v;
        return r;
}

int db_write_version(struct db *db, const struct db_version *v)
{
        const uint64_t numbers[] = { v->shown.revision, v->shown.generation,  (uint64_t)v->shown.synced_at,
                                     v->shown.files,    v->shown.directories, v->shown.symlinks,
                                     v->shown.unknown,  v->shown.bytes,       v->next_ino,
                                     v->rows,           v->shown.loading,     v->load_offset,
                                     v->load_folder,    v->load_rows,         v->load_pending,
                                     v->load_open };
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_SET_VERSION, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, v->shown.valid);
        bind_blob(statement, 2, v->shown.digest, hash_len(v->shown.hash));
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                bind_int(statement, (int)i + 3, numbers[i]);
        return db_run(db, statement);
}

/* ---- reading entries ---- */

/* A row is checked like any input: what a broken disk put there must not be used as an index or a length. */
static int read_row(sqlite3_stmt *statement, struct db_row *ret)
{
        struct catalog_entry *e = &ret->entry;
        int name_len = sqlite3_column_bytes(statement, 2);
        sqlite3_int64 kind = sqlite3_column_int64(statement, 5),
                      algorithm = sqlite3_column_int64(statement, 9),
                      flags = sqlite3_column_int64(statement, 11);
        int r;

        if (name_len > PATH_NAME_MAX || kind < ENTRY_UNKNOWN || kind > ENTRY_SYMLINK ||
            algorithm < HASH_NONE || algorithm >= HASH_ALGORITHMS)
                return -EBADMSG;
        e->ino = (uint64_t)sqlite3_column_int64(statement, 0);
        e->parent = (uint64_t)sqlite3_column_int64(statement, 1);
        e->name_len = (size_t)name_len;
        if (name_len > 0)
                memcpy(e->name, sqlite3_column_blob(statement, 2), (size_t)name_len);
        e->name[name_len] = '\0';
        ret->born = (uint64_t)sqlite3_column_int64(statement, 3);
        ret->died = (uint64_t)sqlite3_column_int64(statement, 4);
        e->retired = ret->died != 0;
        e->kind = (enum entry_kind)kind;
        e->mode = (uint32_t)sqlite3_column_int64(statement, 6) & 07777;
        e->mtime_ns = sqlite3_column_int64(statement, 7);
        e->size = (uint64_t)sqlite3_column_int64(statement, 8);
        e->nlink = 1;
        e->content.algorithm = (enum hash_algorithm)algorithm;
        ret->unknown = flags & DB_UNKNOWN;
        e->pending = flags & DB_PENDING;
        e->tiny = kind == ENTRY_FILE && algorithm != HASH_NONE &&
                  (e->size == 0 || sqlite3_column_int(statement, 12));
        r = column_hash(statement, 10, e->content.bytes, &ret->hash_len);
        if (r == 0 && algorithm != HASH_NONE && ret->hash_len != hash_len(e->content.algorithm))
                r = -EBADMSG;
        return r;
}

static int get_row(struct db *db, sqlite3_stmt *statement, struct db_row *ret)
{
        int r = sqlite3_step(statement);

        if (r == SQLITE_ROW)
                r = read_row(statement, ret);
        else
                r = r == SQLITE_DONE ? CATALOG_NONE : db_error(db, r);
        sqlite3_reset(statement);
        return r;
}

static int each_row(struct db *db, sqlite3_stmt *statement, db_row_fn each, void *arg)
{
        struct db_row row;
        int result, r = 0;

        while (r == 0 && (result = sqlite3_step(statement)) == SQLITE_ROW) {
                r = read_row(statement, &row);
                if (r == 0)
                        r = each(&row, arg);
        }
        if (r == 0 && result != SQLITE_DONE)
                r = db_error(db, result);
        sqlite3_reset(statement);
        return r;
}

int db_lookup(struct db *db, uint64_t parent, const char *name, size_t name_len, struct db_row *ret)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_LOOKUP, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, parent);
        bind_blob(statement, 2, name, name_len);
        return get_row(db, statement, ret);
}

int db_get(struct db *db, uint64_t ino, struct db_row *ret)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_GET, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, ino);
        return get_row(db, statement, ret);
}

int db_data(struct db *db, uint64_t ino, enum entry_kind kind, struct buffer *ret)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_DATA, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, ino);
        bind_int(statement, 2, kind);
        r = sqlite3_step(statement);
        if (r == SQLITE_ROW)
                r = buffer_append(ret, sqlite3_column_blob(statement, 0),
                                  (size_t)sqlite3_column_bytes(statement, 0));
        else
                r = r == SQLITE_DONE ? CATALOG_NONE : db_error(db, r);
        sqlite3_reset(statement);
        return r;
}

int db_list(struct db *db, const struct db_list *list, db_row_fn each, void *arg)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_LIST, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, list->parent);
        bind_blob(statement, 2, list->after, list->after_len);
        bind_int(statement, 3, list->generation);
        return each_row(db, statement, each, arg);
}

int db_each_live(struct db *db, db_row_fn each, void *arg)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_LIVE, &r);

        return statement ? each_row(db, statement, each, arg) : r;
}

int db_each(struct db *db, db_row_fn each, void *arg)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_ALL, &r);

        return statement ? each_row(db, statement, each, arg) : r;
}

/* ---- writing entries ---- */

int db_insert(struct db *db, const struct db_row *row, const void *data, size_t len)
{
        const struct catalog_entry *e = &row->entry;
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_INSERT, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, e->ino);
        bind_int(statement, 2, e->parent);
        bind_blob(statement, 3, e->name, e->name_len);
        bind_int(statement, 4, row->born);
        bind_int(statement, 5, e->kind);
        bind_int(statement, 6, e->mode);
        bind_int(statement, 7, (uint64_t)e->mtime_ns);
        bind_int(statement, 8, e->size);
        bind_int(statement, 9, e->content.algorithm);
        bind_blob(statement, 10, e->content.bytes, row->hash_len);
        bind_int(statement, 11, (row->unknown ? DB_UNKNOWN : 0) | (e->pending ? DB_PENDING : 0));
        bind_blob(statement, 12, data, len);
        return db_run(db, statement);
}

int db_set_attributes(struct db *db, uint64_t ino, uint32_t mode, int64_t mtime_ns, bool unknown)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_SET_ATTRIBUTES, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, ino);
        bind_int(statement, 2, mode);
        bind_int(statement, 3, (uint64_t)mtime_ns);
        bind_int(statement, 4, unknown ? DB_UNKNOWN : 0);
        return db_run(db, statement);
}

int db_set_digest(struct db *db, uint64_t ino, const uint8_t *digest, size_t len)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_SET_DIGEST, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, ino);
        bind_blob(statement, 2, digest, len);
        return db_run(db, statement);
}

int db_clear_pending(struct db *db, uint64_t ino)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_CLEAR_PENDING, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, ino);
        return db_run(db, statement);
}

int db_delete_children(struct db *db, uint64_t parent, const char *after, size_t after_len)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_DELETE_CHILDREN, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, parent);
        bind_blob(statement, 2, after, after_len);
        return db_run(db, statement);
}

int db_retire(struct db *db, uint64_t ino, uint64_t generation)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_RETIRE, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, ino);
        bind_int(statement, 2, generation);
        return db_run(db, statement);
}

int db_delete_retired(struct db *db)
{
        return db_run_query(db, Q_DELETE_RETIRED);
}

int db_delete_all(struct db *db)
{
        return db_run_query(db, Q_DELETE_ALL);
}

/* ---- what large contents replaced ---- */

int db_previous(struct db *db, const struct content_id *now, struct content_id *ret)
{
        struct content_id previous = { .algorithm = now->algorithm };
        size_t len = 0;
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_PREVIOUS, &r);

        if (!statement)
                return r;
        bind_blob(statement, 1, now->bytes, hash_len(now->algorithm));
        r = sqlite3_step(statement);
        if (r == SQLITE_ROW)
                r = column_hash(statement, 0, previous.bytes, &len);
        else
                r = r == SQLITE_DONE ? CATALOG_NONE : db_error(db, r);
        sqlite3_reset(statement);
        if (r == CATALOG_OK && len != hash_len(now->algorithm))
                r = -EBADMSG;
        if (r == CATALOG_OK)
                *ret = previous;
        return r;
}

int db_set_previous(struct db *db, const struct content_id *now, const struct content_id *old, uint64_t max)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_SET_PREVIOUS, &r);

        if (!statement)
                return r;
        bind_blob(statement, 1, now->bytes, hash_len(now->algorithm));
        bind_blob(statement, 2, old->bytes, hash_len(old->algorithm));
        r = db_run(db, statement);
        if (r < 0)
                return r;
        statement = db_statement(db, Q_FORGET_PREVIOUS, &r);
        if (!statement)
                return r;
        bind_int(statement, 1, max);
        return db_run(db, statement);
}
