#include "fs/mountinfo.h"

#include <stdbool.h>
#include <string.h>

void mountinfo_release(struct mountinfo *info)
{
        free(info->device);
        free(info->target);
        free(info->type);
        free(info->source);
        *info = (struct mountinfo){ 0 };
}

static bool is_octal(char c)
{
        return c >= '0' && c <= '7';
}

/* Undoes the octal escapes of proc(5), in place. */
static void unescape(char *text)
{
        char *out = text;

        for (const char *p = text; *p; out++) {
                if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && is_octal(p[2]) && is_octal(p[3])) {
                        *out = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
                        p += 4;
                } else {
                        *out = *p++;
                }
        }
        *out = '\0';
}

/* A line as proc_pid_mountinfo(5) describes it: ID parent major:minor root target options [optional...] -
 * type source options */
static int parse_line(char *line, struct mountinfo *ret)
{
        char *words[6], *rest = line, *tail;

        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                words[i] = strsep(&rest, " ");
                if (!words[i])
                        return -EINVAL;
        }
        tail = rest && strncmp(rest, "- ", 2) == 0 ? rest - 1 : rest ? strstr(rest, " - ") : NULL;
        if (!tail)
                return -EINVAL;
        tail += 3; /* past " - ", of which the first byte may be the end of the last word */
        unescape(words[4]);
        ret->device = strdup(words[2]);
        ret->target = strdup(words[4]);
        ret->type = strdup(strsep(&tail, " "));
        ret->source = tail ? strdup(strsep(&tail, " ")) : strdup("");
        if (!ret->device || !ret->target || !ret->type || !ret->source) {
                mountinfo_release(ret);
                return -ENOMEM;
        }
        unescape(ret->source);
        return 0;
}

static int each_mount(int (*each)(const struct mountinfo *info, void *arg), void *arg)
{
        _cleanup_fclose_ FILE *f = fopen("/proc/self/mountinfo", "re");
        _cleanup_free_ char *line = NULL;
        size_t capacity = 0;
        ssize_t n;
        int r = 0;

        if (!f)
                return -errno;
        while (r == 0 && (n = getline(&line, &capacity, f)) > 0) {
                _cleanup_(mountinfo_release) struct mountinfo info = { 0 };
                line[n - (line[n - 1] == '\n')] = '\0';
                r = parse_line(line, &info);
                if (r == 0)
                        r = each(&info, arg);
                else if (r == -EINVAL)
                        r = 0;
        }
        return r;
}

static int copy(const struct mountinfo *info, struct mountinfo *ret)
{
        mountinfo_release(ret);
        ret->device = strdup(info->device);
        ret->target = strdup(info->target);
        ret->type = strdup(info->type);
        ret->source = strdup(info->source);
        return ret->device && ret->target && ret->type && ret->source ? 0 : -ENOMEM;
}

struct search {
        const char *path;
        size_t best;
        struct mountinfo *found;
};

/* The longest target that PATH lies in; of several mounts on one place the last one is on top. */
static int keep_best(const struct mountinfo *info, void *arg)
{
        struct search *s = arg;
        size_t n = strlen(info->target);

        if (strcmp(info->target, "/") == 0)
                n = 0;
        else if (strncmp(s->path, info->target, n) != 0 || (s->path[n] && s->path[n] != '/'))
                return 0;
        if (s->found->target && n < s->best)
                return 0;
        s->best = n;
        return copy(info, s->found);
}

/* Absolute and without links, as mountinfo shows it, without touching the last part: a dead mount answers no
 * question. */
static char *canonical(const char *path)
{
        _cleanup_free_ char *copy = strdup(path), *parent = NULL;
        char *whole, *slash;
        size_t len;

        if (!copy)
                return NULL;
        for (len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--)
                copy[len - 1] = '\0';
        whole = realpath(copy, NULL);
        if (whole)
                return whole;
        slash = strrchr(copy, '/');
        if (slash == copy)
                return TAKE_PTR(copy);
        if (slash)
                *slash = '\0';
        parent = realpath(slash ? copy : ".", NULL);
        if (!parent ||
            asprintf(&whole, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, slash ? slash + 1 : copy) < 0)
                return NULL;
        return whole;
}

int mountinfo_find(const char *path, struct mountinfo *ret)
{
        _cleanup_free_ char *absolute = canonical(path);
        struct mountinfo found = { 0 };
        struct search search = { .path = absolute, .found = &found };
        int r;

        if (!absolute)
                return -ENOENT;
        r = each_mount(keep_best, &search);
        if (r < 0 || !found.target) {
                mountinfo_release(&found);
                return r < 0 ? r : -ENOENT;
        }
        *ret = found;
        return 0;
}

struct device_search {
        const char *device;
        struct mountinfo *found;
};

static int keep_device(const struct mountinfo *info, void *arg)
{
        struct device_search *s = arg;

        return s->found->target || strcmp(info->device, s->device) != 0 ? 0 : copy(info, s->found);
}

int mountinfo_find_device(const char *device, struct mountinfo *ret)
{
        struct mountinfo found = { 0 };
        struct device_search search = { .device = device, .found = &found };
        int r = each_mount(keep_device, &search);

        if (r < 0 || !found.target) {
                mountinfo_release(&found);
                return r < 0 ? r : -ENOENT;
        }
        *ret = found;
        return 0;
}

struct own_filter {
        int (*each)(const struct mountinfo *info, void *arg);
        void *arg;
};

static int only_own(const struct mountinfo *info, void *arg)
{
        const struct own_filter *filter = arg;

        return strcmp(info->type, MOUNTINFO_TYPE) == 0 ? filter->each(info, filter->arg) : 0;
}

int mountinfo_each_own(int (*each)(const struct mountinfo *info, void *arg), void *arg)
{
        struct own_filter filter = { .each = each, .arg = arg };

        return each_mount(only_own, &filter);
}
