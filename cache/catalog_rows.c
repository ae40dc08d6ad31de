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
        sqlite3_stmt *statement = sql_statement(&db->sql, Q_VERSION, &r);

        if (!statement)
                return r;
        r = sql_step(&db->sql, statement, -EBADMSG);
        if (r == 0) {
                v.shown.valid = sqlite3_column_int(statement, 0) != 0;
                r = column_hash(statement, 1, v.shown.digest, &digest_len);
                v.shown.hash = hash_of_len(digest_len);
                for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                        *numbers[i] = (uint64_t)sqlite3_column_int64(statement, (int)i + 2);
                v.shown.loading = loading != 0;
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
        sqlite3_stmt *statement = sql_statement(&db->sql, Q_SET_VERSION, &r);

        if (!statement)
                return r;
        sql_bind_int(statement, 1, v->shown.valid);
        sql_bind_blob(statement, 2, v->shown.digest, hash_len(v->shown.hash));
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                sql_bind_int(statement, (int)i + 3, numbers[i]);
        return sql_run(&db->sql, statement);
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
        int r = sql_step(&db->sql, statement, CATALOG_NONE);

        if (r == 0)
                r = read_row(statement, ret);
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
                r = sql_error(&db->sql, result);
        sqlite3_reset(statement);
        return r;
}

int db_lookup(struct db *db, uint64_t parent, const char *name, size_t name_len, struct db_row *ret)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_named(&db->sql, Q_LOOKUP, parent, name, name_len, &r);

        return statement ? get_row(db, statement, ret) : r;
}

int db_get(struct db *db, uint64_t ino, struct db_row *ret)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_with(&db->sql, Q_GET, &ino, 1, &r);

        return statement ? get_row(db, statement, ret) : r;
}

int db_data(struct db *db, uint64_t ino, enum entry_kind kind, struct buffer *ret)
{
        const uint64_t values[] = { ino, kind };
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_with(&db->sql, Q_DATA, values, 2, &r);

        if (!statement)
                return r;
        r = sql_step(&db->sql, statement, CATALOG_NONE);
        if (r == 0)
                r = buffer_append(ret, sqlite3_column_blob(statement, 0),
                                  (size_t)sqlite3_column_bytes(statement, 0));
        sqlite3_reset(statement);
        return r;
}

int db_list(struct db *db, const struct db_list *list, db_row_fn each, void *arg)
{
        int r = -EIO;
        sqlite3_stmt *statement =
                sql_statement_named(&db->sql, Q_LIST, list->parent, list->after, list->after_len, &r);

        if (!statement)
                return r;
        sql_bind_int(statement, 3, list->generation);
        return each_row(db, statement, each, arg);
}

int db_each_live(struct db *db, db_row_fn each, void *arg)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement(&db->sql, Q_LIVE, &r);

        return statement ? each_row(db, statement, each, arg) : r;
}

int db_each(struct db *db, db_row_fn each, void *arg)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement(&db->sql, Q_ALL, &r);

        return statement ? each_row(db, statement, each, arg) : r;
}

int db_each_retired(struct db *db, uint64_t through, db_row_fn each, void *arg)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_with(&db->sql, Q_RETIRED, &through, 1, &r);

        return statement ? each_row(db, statement, each, arg) : r;
}

/* ---- writing entries ---- */

int db_insert(struct db *db, const struct db_row *row, const void *data, size_t len)
{
        const struct catalog_entry *e = &row->entry;
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement(&db->sql, Q_INSERT, &r);

        if (!statement)
                return r;
        sql_bind_int(statement, 1, e->ino);
        sql_bind_int(statement, 2, e->parent);
        sql_bind_blob(statement, 3, e->name, e->name_len);
        sql_bind_int(statement, 4, row->born);
        sql_bind_int(statement, 5, e->kind);
        sql_bind_int(statement, 6, e->mode);
        sql_bind_int(statement, 7, (uint64_t)e->mtime_ns);
        sql_bind_int(statement, 8, e->size);
        sql_bind_int(statement, 9, e->content.algorithm);
        sql_bind_blob(statement, 10, e->content.bytes, row->hash_len);
        sql_bind_int(statement, 11, (row->unknown ? DB_UNKNOWN : 0) | (e->pending ? DB_PENDING : 0));
        sql_bind_blob(statement, 12, data, len);
        return sql_run(&db->sql, statement);
}

int db_set_attributes(struct db *db, uint64_t ino, uint32_t mode, int64_t mtime_ns, bool unknown)
{
        const uint64_t values[] = { ino, mode, (uint64_t)mtime_ns, unknown ? DB_UNKNOWN : 0 };

        return sql_run_with(&db->sql, Q_SET_ATTRIBUTES, values, 4);
}

int db_set_digest(struct db *db, uint64_t ino, const uint8_t *digest, size_t len)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_with(&db->sql, Q_SET_DIGEST, &ino, 1, &r);

        if (!statement)
                return r;
        sql_bind_blob(statement, 2, digest, len);
        return sql_run(&db->sql, statement);
}

int db_clear_pending(struct db *db, uint64_t ino)
{
        return sql_run_with(&db->sql, Q_CLEAR_PENDING, &ino, 1);
}

int db_delete_children(struct db *db, uint64_t parent, const char *after, size_t after_len)
{
        int r = -EIO;
        sqlite3_stmt *statement =
                sql_statement_named(&db->sql, Q_DELETE_CHILDREN, parent, after, after_len, &r);

        return statement ? sql_run(&db->sql, statement) : r;
}

int db_retire(struct db *db, uint64_t ino, uint64_t generation)
{
        const uint64_t values[] = { ino, generation };

        return sql_run_with(&db->sql, Q_RETIRE, values, 2);
}

int db_delete_retired(struct db *db)
{
        return sql_run_with(&db->sql, Q_DELETE_RETIRED, NULL, 0);
}

int db_forget(struct db *db, uint64_t ino)
{
        return sql_run_with(&db->sql, Q_FORGET, &ino, 1);
}

int db_delete_all(struct db *db)
{
        return sql_run_with(&db->sql, Q_DELETE_ALL, NULL, 0);
}

/* ---- what large contents replaced ---- */

int db_previous(struct db *db, const struct content_id *now, struct content_id *ret)
{
        struct content_id previous = { .algorithm = now->algorithm };
        size_t len = 0;
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement(&db->sql, Q_PREVIOUS, &r);

        if (!statement)
                return r;
        sql_bind_blob(statement, 1, now->bytes, hash_len(now->algorithm));
        r = sql_step(&db->sql, statement, CATALOG_NONE);
        if (r == 0)
                r = column_hash(statement, 0, previous.bytes, &len);
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
        sqlite3_stmt *statement = sql_statement(&db->sql, Q_SET_PREVIOUS, &r);

        if (!statement)
                return r;
        sql_bind_blob(statement, 1, now->bytes, hash_len(now->algorithm));
        sql_bind_blob(statement, 2, old->bytes, hash_len(old->algorithm));
        r = sql_run(&db->sql, statement);
        return r < 0 ? r : sql_run_with(&db->sql, Q_FORGET_PREVIOUS, &max, 1);
}
