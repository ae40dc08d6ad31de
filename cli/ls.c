#include "cli/command.h"

#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cli/remote_call.h"
#include "fs/status.h"

struct listing {
        struct remote *remote;
        const struct remote_call *call;
        bool terminal;
        bool any; /* something was printed */
};

/* "drwxr-xr-x" */
static const char *format_mode(const struct catalog_entry *entry, char buf[11])
{
        static const char letters[] = "rwxrwxrwx";
        static const struct {
                uint32_t bit;
                int at;
                char set, other;
        } special[] = { { 04000, 3, 's', 'S' }, { 02000, 6, 's', 'S' }, { 01000, 9, 't', 'T' } };

        buf[0] = entry->kind == ENTRY_DIRECTORY ? 'd' : entry->kind == ENTRY_SYMLINK ? 'l' : '-';
        for (int i = 0; i < 9; i++)
                buf[i + 1] = entry->mode & (0400u >> i) ? letters[i] : '-';
        for (size_t i = 0; i < ARRAY_SIZE(special); i++)
                if (entry->mode & special[i].bit)
                        buf[special[i].at] = buf[special[i].at] == 'x' ? special[i].set : special[i].other;
        buf[10] = '\0';
        return buf;
}

/* What the master calls something must not drive the terminal. */
static void print_text(const struct listing *l, const char *text)
{
        _cleanup_free_ char *copy = l->terminal ? strdup(text) : NULL;

        if (copy)
                log_make_printable(copy);
        fputs(copy ?: text, stdout);
}

static void print_details(const struct catalog_entry *entry)
{
        time_t seconds = (time_t)(entry->mtime_ns / NSEC_PER_SEC);
        char mode[11], when[32] = "?";
        struct tm tm;

        if (localtime_r(&seconds, &tm))
                strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
        printf("%s %12llu %s ", format_mode(entry, mode), (unsigned long long)entry->size, when);
}

static int print_line(const struct listing *l, const struct catalog_entry *entry, const char *path)
{
        _cleanup_buffer_ struct buffer target = { 0 };

        if (l->call->detailed)
                print_details(entry);
        print_text(l, path);
        if (l->call->detailed && entry->kind == ENTRY_SYMLINK &&
            catalog_readlink(remote_catalog(l->remote), entry->ino, &target) == CATALOG_OK) {
                fputs(" -> ", stdout);
                print_text(l, target.data ?: "");
        }
        putchar('\n');
        return 0;
}

static int print_object(struct listing *l, const struct catalog_entry *entry, const char *path)
{
        _cleanup_buffer_ struct buffer target = { 0 };
        char hash[HASH_TEXT_MAX];
        json_t *object = json_pack("{s:o, s:s, s:I, s:i, s:I, s:s}", "path", status_path_json(path), "kind",
                                   status_kind_name(entry->kind), "size", (json_int_t)entry->size, "mode",
                                   (int)entry->mode, "mtime_ns", (json_int_t)entry->mtime_ns, "hash",
                                   content_id_format(&entry->content, hash));

        if (!object)
                return -ENOMEM;
        if (entry->kind == ENTRY_SYMLINK &&
            catalog_readlink(remote_catalog(l->remote), entry->ino, &target) == CATALOG_OK)
                json_object_set_new(object, "target", status_path_json(target.data ?: ""));
        fputs(l->any ? ",\n" : "", stdout);
        json_dumpf(object, stdout, JSON_COMPACT);
        json_decref(object);
        return 0;
}

static int print_entry(struct listing *l, const struct catalog_entry *entry, const char *path)
{
        int r = l->call->json ? print_object(l, entry, path) : print_line(l, entry, path);

        l->any = true;
        return r == 0 && ferror(stdout) ? -EPIPE : r;
}

static int print_child(const struct catalog_entry *child, void *arg)
{
        return print_entry(arg, child, child->name);
}

static int print_visited(const struct remote_visit *visit, void *arg)
{
        return visit->leaving || visit->path_len == 0 ? 0 : print_entry(arg, visit->entry, visit->path);
}

static int list(struct listing *l, const struct catalog_entry *top)
{
        int r;

        if (l->call->json)
                puts("[");
        if (top->kind != ENTRY_DIRECTORY)
                r = print_entry(l, top, top->name);
        else if (l->call->recursive)
                r = remote_walk(l->remote, top, print_visited, l);
        else
                r = remote_each(l->remote, top, print_child, l);
        if (l->call->json)
                puts(l->any ? "\n]" : "]");
        return fflush(stdout) != 0 && r == 0 ? -EPIPE : r;
}

int command_ls(int argc, char **argv)
{
        struct remote_call call;
        struct listing l = { .call = &call, .terminal = isatty(STDOUT_FILENO) };
        struct catalog_entry top;
        int r, code = 0;

        if (!remote_call_parse(argc, argv, "lRj", &call, &code) ||
            !remote_call_open(&call, true, call.recursive, &l.remote, &top, &code))
                return code;
        r = list(&l, &top);
        if (r < 0)
                (void)remote_call_fail(l.remote, call.operands[0], r);
        return remote_call_end(l.remote, r, remote_exit_code(r));
}
