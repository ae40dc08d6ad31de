#include "server/page.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/sha.h>

#include "base/util.h"

static const char style[] =
        ":root{color-scheme:light dark;--ink:#1c2127;--dim:#5b6570;--paper:#fff;--line:#d5dae0;"
        "--good:#176b32;--warn:#8a5300;--bad:#a61b1b}"
        "@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--dim:#9aa5b1;--paper:#14181c;--line:#343b43;"
        "--good:#6fcf8b;--warn:#f0b860;--bad:#ff8a80}}"
        "*{box-sizing:border-box}"
        "body{margin:0 auto;max-width:75rem;padding:1rem;background:var(--paper);color:var(--ink);"
        "font:1rem/1.45 system-ui,sans-serif}"
        "h1{font-size:1.4rem;margin:0 0 .25rem;overflow-wrap:anywhere}"
        "h2{font-size:1.1rem;margin:1.75rem 0 .5rem}"
        "p{margin:.25rem 0;overflow-wrap:anywhere}"
        ".dim{color:var(--dim)}"
        ".good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}"
        ".state{font-weight:600}"
        "dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:.5rem 1rem;margin:0}"
        "dl div{border-left:3px solid var(--line);padding-left:.6rem;min-width:0}"
        "dt{color:var(--dim);font-size:.85rem}"
        "dd{margin:0;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}"
        ".scroll{overflow-x:auto}"
        ".scroll:focus-visible{outline:2px solid var(--dim)}"
        "table{border-collapse:collapse;width:100%;font-size:.92rem}"
        "th,td{text-align:left;vertical-align:top;padding:.35rem .75rem .35rem 0;"
        "border-bottom:1px solid var(--line)}"
        "th{color:var(--dim);font-weight:500;white-space:nowrap}"
        "td{max-width:22rem;min-width:6rem;overflow-wrap:anywhere}"
        ".number{min-width:0;text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}"
        "code{font:.85em ui-monospace,monospace;overflow-wrap:normal}"
        "time{white-space:nowrap}";

const char *page_policy(char buf[PAGE_POLICY_MAX])
{
        uint8_t digest[SHA256_DIGEST_LENGTH];
        char text[64];

        SHA256((const uint8_t *)style, sizeof(style) - 1, digest);
        EVP_EncodeBlock((uint8_t *)text, digest, sizeof(digest));
        snprintf(buf, PAGE_POLICY_MAX,
                 "default-src 'none'; img-src data:; style-src 'sha256-%s'; base-uri 'none'; form-action "
                 "'none'; "
                 "frame-ancestors 'none'",
                 text);
        return buf;
}

/* ---- writing: what is out of memory stays so, and page_format sees it ---- */

struct page {
        struct buffer *out;
        int error;
};

#define put(page, ...)                                                                                       \
        do {                                                                                                 \
                int r_ = buffer_printf((page)->out, __VA_ARGS__);                                            \
                if (r_ < 0)                                                                                  \
                        (page)->error = r_;                                                                  \
        } while (0)

/* Escaped, for text and for quoted attributes alike. */
static void put_text(struct page *page, const char *text)
{
        for (; *text; text++)
                switch (*text) {
                case '&':
                        put(page, "&amp;");
                        break;
                case '<':
                        put(page, "&lt;");
                        break;
                case '>':
                        put(page, "&gt;");
                        break;
                case '"':
                        put(page, "&quot;");
                        break;
                case '\'':
                        put(page, "&#39;");
                        break;
                default:
                        put(page, "%c", *text);
                }
}

static const char *string(const json_t *object, const char *key)
{
        return json_string_value(json_object_get(object, key)) ?: "";
}

static long long number(const json_t *object, const char *key)
{
        return (long long)json_integer_value(json_object_get(object, key));
}

static void put_bytes(struct page *page, double bytes)
{
        static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
        size_t unit = 0;

        for (; bytes >= 1024 && unit + 1 < ARRAY_SIZE(units); unit++)
                bytes /= 1024;
        put(page, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

static void put_span(struct page *page, long long sec)
{
        if (sec < 120)
                put(page, "%lld s", sec);
        else if (sec < 7200)
                put(page, "%lld min", sec / 60);
        else if (sec < 172800)
                put(page, "%lld h", sec / 3600);
        else
                put(page, "%lld days", sec / 86400);
}

static void put_time(struct page *page, long long at_sec)
{
        time_t at = (time_t)at_sec;
        char utc[32], local[32];
        struct tm tm;

        strftime(utc, sizeof(utc), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
        strftime(local, sizeof(local), "%Y-%m-%d %H:%M:%S", localtime_r(&at, &tm));
        put(page, "<time datetime=\"%s\">%s</time>", utc, local);
}

/* ---- tables ---- */

struct column {
        const char *title;
        bool is_number;
        void (*show)(struct page *page, const json_t *row, const struct column *column);
        const char *key;
};

/* Names may hold marks that turn the direction of writing: each stays within its own cell. */
static void put_string(struct page *page, const json_t *row, const struct column *column)
{
        put(page, "<bdi>");
        put_text(page, string(row, column->key));
        put(page, "</bdi>");
}

static void put_number(struct page *page, const json_t *row, const struct column *column)
{
        put(page, "%lld", number(row, column->key));
}

static void put_size(struct page *page, const json_t *row, const struct column *column)
{
        put_bytes(page, (double)number(row, column->key));
}

static void put_moment(struct page *page, const json_t *row, const struct column *column)
{
        if (json_is_null(json_object_get(row, column->key)))
                put(page, "before the start");
        else
                put_time(page, number(row, column->key));
}

static void put_version(struct page *page, const json_t *row, const struct column *column)
{
        const char *version = string(row, column->key);

        put(page, "<code title=\"%s\">%.12s</code>", version, version[0] ? version : "none");
}

static void put_folder(struct page *page, const json_t *row, const struct column *column)
{
        put(page, "<bdi>");
        put_text(page, string(row, "spider"));
        put(page, "/");
        put_text(page, string(row, "path"));
        put(page, "</bdi>");
}

static void put_state(struct page *page, const json_t *row, const struct column *column)
{
        const char *state = string(row, "state");

        put(page, "<span class=\"%s\">%s</span>", strcmp(state, "current") == 0 ? "good" : "warn", state);
        if (number(row, "lag_seconds") > 0) {
                put(page, ", ");
                put_span(page, number(row, "lag_seconds"));
        }
}

static void put_level(struct page *page, const json_t *row, const struct column *column)
{
        const char *level = string(row, "level");

        put(page, "<span class=\"%s\">%s</span>", strcmp(level, "error") == 0 ? "bad" : "warn", level);
}

static void put_row(struct page *page, const json_t *row, const struct column *columns)
{
        put(page, "<tr>");
        for (const struct column *c = columns; c->title; c++) {
                put(page, c->is_number ? "<td class=\"number\">" : "<td>");
                c->show(page, row, c);
                put(page, "</td>");
        }
        put(page, "</tr>\n");
}

static void put_table(struct page *page, const char *id, const json_t *rows, const struct column *columns)
{
        const json_t *row;
        size_t i;

        put(page,
            "<div class=\"scroll\" role=\"region\" aria-labelledby=\"%s\" tabindex=\"0\"><table>\n"
            "<thead><tr>",
            id);
        for (const struct column *c = columns; c->title; c++)
                put(page, "<th scope=\"col\"%s>%s</th>", c->is_number ? " class=\"number\"" : "", c->title);
        put(page, "</tr></thead>\n<tbody>\n");
        json_array_foreach(rows, i, row) put_row(page, row, columns);
        put(page, "</tbody></table></div>\n");
}

/* One of the status's tables with its heading. NONE: what to say of an empty one. */
static void put_section(struct page *page, const json_t *status, const char *id, const char *title,
                        const char *none, const struct column *columns)
{
        const json_t *table = json_object_get(status, id);
        const json_t *rows = json_object_get(table, "rows");
        long long all = number(table, "count"), shown = (long long)json_array_size(rows);

        put(page, "<h2 id=\"%s\">%s <span class=\"dim\">%lld</span></h2>\n", id, title, all);
        if (shown == 0)
                put(page, "<p class=\"dim\">%s</p>\n", none);
        else
                put_table(page, id, rows, columns);
        if (all > shown)
                put(page, "<p class=\"dim\">and %lld more</p>\n", all - shown);
}

/* ---- the page ---- */

static void put_head(struct page *page, const json_t *server)
{
        bool ready = json_is_true(json_object_get(server, "ready"));

        put(page,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
            "<meta http-equiv=\"refresh\" content=\"%d\">\n<link rel=\"icon\" href=\"data:,\">\n<title>",
            PAGE_REFRESH_SEC);
        put_text(page, string(server, "name"));
        put(page, " – fsyncfs</title>\n<style>%s</style></head>\n<body><header><h1><bdi>", style);
        put_text(page, string(server, "name"));
        put(page, "</bdi> <span class=\"state %s\">%s</span></h1>\n", ready ? "good" : "bad",
            ready ? "serves" : "does not serve");
        if (!ready) {
                put(page, "<p class=\"bad\">");
                put_text(page, string(server, "reason"));
                put(page, "</p>\n");
        }
        put(page, "<p class=\"dim\">fsyncfs-server %s", string(server, "version"));
        if (string(server, "address")[0]) {
                put(page, " on ");
                put_text(page, string(server, "address"));
        }
        put(page, ", up for ");
        put_span(page, number(server, "uptime_seconds"));
        put(page, ", as of ");
        put_time(page, number(server, "now"));
        put(page, "</p></header>\n<main>\n");
}

static void put_rate(struct page *page, const json_t *transfers, const char *title, const char *key)
{
        put(page, "<div><dt>%s</dt><dd>", title);
        put_bytes(page, json_number_value(json_object_get(transfers, key)));
        put(page, "/s</dd></div>\n");
}

static void put_percent(struct page *page, const json_t *savings, const char *title, const char *key)
{
        const json_t *value = json_object_get(savings, key);

        put(page, "<div><dt>%s</dt><dd>", title);
        if (json_is_number(value))
                put(page, "%.1f %%</dd></div>\n", json_number_value(value));
        else
                put(page, "nothing yet</dd></div>\n");
}

static void put_transfers(struct page *page, const json_t *status)
{
        const json_t *transfers = json_object_get(status, "transfers"),
                     *savings = json_object_get(status, "savings");

        put(page, "<h2>Transfers now</h2>\n<dl>\n");
        put_rate(page, transfers, "Contents", "bytes_per_second");
        put_rate(page, transfers, "Listings", "listing_bytes_per_second");
        put(page, "<div><dt>Files hashed</dt><dd>%.1f/s</dd></div>\n",
            json_number_value(json_object_get(transfers, "hashed_files_per_second")));
        put(page, "<div><dt>Calls under way</dt><dd>%lld</dd></div>\n", number(transfers, "calls"));
        put_percent(page, savings, "Contents sent from memory", "from_memory_percent");
        put_percent(page, savings, "Listings that were differences", "difference_percent");
        put(page, "</dl>\n");
}

static void put_tables(struct page *page, const json_t *status)
{
        static const struct column mounts[] = {
                { "Worker", false, put_string, "node" },     { "State", false, put_state, "state" },
                { "Mounts", false, put_folder, "path" },     { "Version", false, put_version, "version" },
                { "Address", false, put_string, "address" }, { "Let in with", false, put_string, "key" },
                { "Since", false, put_moment, "since" },     { 0 },
        };
        static const struct column stock[] = {
                { "Worker", false, put_string, "node" },
                { "Asked for", false, put_string, "spider" },
                { "Address", false, put_string, "address" },
                { 0 },
        };
        static const struct column workspaces[] = {
                { "Spider", false, put_string, "spider" },
                { "Version", false, put_version, "version" },
                { "Revision", true, put_number, "revision" },
                { "Entries", true, put_number, "entries" },
                { "Size", true, put_size, "bytes" },
                { "Unreadable", true, put_number, "unknown" },
                { "Last change", false, put_moment, "changed" },
                { 0 },
        };

        put_section(page, status, "mounts", "Mounts", "None is connected.", mounts);
        if (number(json_object_get(status, "stock_workers"), "count") > 0)
                put_section(page, status, "stock_workers", "Stock workers in the last minute", "", stock);
        put_section(page, status, "workspaces", "Workspaces", "Nobody has asked for one lately.", workspaces);
}

static void put_log(struct page *page, const json_t *log)
{
        static const struct column columns[] = {
                { "When", false, put_moment, "at" },
                { "Level", false, put_level, "level" },
                { "What", false, put_string, "text" },
                { 0 },
        };

        put(page, "<h2 id=\"log\">Last warnings and errors</h2>\n");
        if (json_array_size(log) == 0)
                put(page, "<p class=\"dim\">None since the start.</p>\n");
        else
                put_table(page, "log", log, columns);
}

int page_format(const json_t *status, struct buffer *out)
{
        struct page page = { .out = out };

        put_head(&page, json_object_get(status, "server"));
        put_transfers(&page, status);
        put_tables(&page, status);
        put_log(&page, json_object_get(status, "log"));
        put(&page, "</main></body></html>\n");
        return page.error;
}
