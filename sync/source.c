#include "sync/source.h"

#include <string.h>

#include "base/path.h"

#define DEFAULT_PORT "9666"

void source_release(struct source *source)
{
        free(source->text);
        for (size_t i = 0; i < source->n_masters; i++)
                free(source->masters[i]);
        free(source->spider);
        free(source->path);
        *source = (struct source){ 0 };
}

static int check_port(const char *port)
{
        char *end;
        unsigned long n = strtoul(port, &end, 10);

        return *port < '0' || *port > '9' || *end || n == 0 || n > 65535 ? -EINVAL : 0;
}

/* One HOST, HOST:PORT, [V6] or [V6]:PORT; the default port is added. */
static int add_master(struct source *s, const char *host, struct failure *failure)
{
        const char *port = NULL, *bracket = host[0] == '[' ? strchr(host, ']') : NULL;
        size_t host_len;

        if (host[0] == '[' && (!bracket || (bracket[1] && bracket[1] != ':')))
                return failure_set(failure, -EINVAL,
                                   "bad master address '%s': expected [IPV6] or [IPV6]:PORT", host);
        port = strchr(bracket ? bracket : host, ':');
        host_len = port ? (size_t)(port - host) : strlen(host);
        if (host_len == 0)
                return failure_set(failure, -EINVAL, "bad source '%s': a host name is missing before ':'",
                                   s->text);
        if (port && check_port(port + 1) < 0)
                return failure_set(failure, -EINVAL,
                                   "bad port '%s' in '%s': expected a number from 1 to 65535", port + 1,
                                   s->text);
        if (s->n_masters == SOURCE_MASTERS_MAX)
                return failure_set(failure, -EINVAL, "too many masters in '%s': at most %d", s->text,
                                   SOURCE_MASTERS_MAX);
        if (asprintf(&s->masters[s->n_masters], "%.*s:%s", (int)host_len, host,
                     port ? port + 1 : DEFAULT_PORT) < 0)
                return -ENOMEM;
        s->n_masters++;
        return 0;
}

static int add_masters(struct source *s, char *list, struct failure *failure)
{
        if (strncmp(list, "unix:", 5) == 0) {
                if (list[5] != '/')
                        return failure_set(failure, -EINVAL, "bad source '%s': expected unix:/SOCKET:/SPIDER",
                                           s->text);
                s->masters[0] = strdup(list);
                s->n_masters = s->masters[0] ? 1 : 0;
                return s->n_masters ? 0 : -ENOMEM;
        }
        for (;;) {
                char *host = strsep(&list, ",");
                int r;
                if (!host)
                        return 0;
                r = add_master(s, host, failure);
                if (r < 0)
                        return r;
        }
}

/* SPIDER[/PATH], with a trailing slash forgiven. */
static int set_workspace(struct source *s, const char *where, struct failure *failure)
{
        size_t len = strlen(where), spider_len;

        while (len > 0 && where[len - 1] == '/')
                len--;
        spider_len = strcspn(where, "/");
        if (len == 0)
                return failure_set(failure, -EINVAL,
                                   "bad source '%s': the spider is missing: HOST[:PORT]:/SPIDER", s->text);
        if (path_check(where, len) < 0)
                return failure_set(
                        failure, -EINVAL,
                        "bad source '%s': the path after ':/' must not hold empty, '.' or '..' parts",
                        s->text);
        s->spider = strndup(where, spider_len);
        s->path = len > spider_len ? strndup(where + spider_len + 1, len - spider_len - 1) : strdup("");
        if (!s->spider || !s->path)
                return -ENOMEM;
        if (!path_is_utf8(where, len))
                return failure_set(failure, -EINVAL, "bad source: spider and path must be UTF-8");
        return 0;
}

int source_parse(const char *text, struct source *ret, struct failure *failure)
{
        _cleanup_(source_release) struct source s = { 0 };
        _cleanup_free_ char *copy = strdup(text);
        char *split;
        int r;

        s.text = strdup(text);
        if (!copy || !s.text)
                return -ENOMEM;
        split = strstr(copy, ":/");
        if (split && strncmp(copy, "unix:", 5) == 0)
                split = strstr(split + 1, ":/");
        if (!split)
                return failure_set(failure, -EINVAL,
                                   "bad source '%s': expected HOST[:PORT]:/SPIDER or unix:SOCKET:/SPIDER",
                                   text);
        *split = '\0';
        r = add_masters(&s, copy, failure);
        if (r < 0)
                return r;
        r = set_workspace(&s, split + 2, failure);
        if (r < 0)
                return r;
        *ret = s;
        s = (struct source){ 0 };
        return 0;
}

int source_join(const struct source *source, const char *path, size_t len, struct buffer *ret)
{
        int r = buffer_append(ret, source->path, strlen(source->path));

        if (r == 0 && ret->len > 0 && len > 0)
                r = buffer_append(ret, "/", 1);
        return r < 0 ? r : buffer_append(ret, path, len);
}
