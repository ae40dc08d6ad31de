#include "server/options.h"

#include <getopt.h>
#include <string.h>
#include <unistd.h>

#include "base/setting_field.h"

#define SCAN_TTL_SEC  60
#define STAT_PASS_SEC 600
#define SECONDS_MAX   (24 * 3600)
#define COUNT_MAX     1000000

#define ARGUMENTS_MAX 256 /* on the command line */

/* ---- values ---- */

/* Knobs that tests turn; what cannot be read counts as 0. */
static uint64_t from_environment(const char *name)
{
        const char *text = getenv(name);

        return text ? strtoull(text, NULL, 10) : 0;
}

static int set_listen(const struct setting *row, void *target, const char *value)
{
        struct options *o = target;

        if (!value) {
                o->n_listen = 0;
                return 0;
        }
        if (!value[0])
                return -EINVAL;
        if (o->n_listen == OPTIONS_LISTEN_MAX)
                return -E2BIG;
        o->listen[o->n_listen++] = value;
        return 0;
}

static int set_hash(const struct setting *row, void *field, const char *value)
{
        enum hash_algorithm hash = hash_base_named(value);

        if (hash == HASH_NONE)
                return -EINVAL;
        *(enum hash_algorithm *)field = hash;
        return 0;
}

/* ---- the table ---- */

static const struct setting rows[] = {
        { .name = "workspace",
          .kind = SETTING_PATH,
          .argument = "DIR",
          .expects = "a folder",
          SETTING_TO_TEXT(struct options, workspace),
          .help = "the folder that holds the spiders' folders" },
        { .name = "listen",
          .kind = SETTING_LIST,
          .argument = "ADDRESS",
          .expects = "HOST:PORT, [V6]:PORT or unix:PATH, 16 at most",
          .set = set_listen,
          .fallback = "port 9666, of this machine alone without tokens and TLS",
          .help = "HOST:PORT or unix:PATH; may be repeated (port 9666)" },
        { .name = "index",
          .kind = SETTING_PATH,
          .argument = "DIR",
          .expects = "a folder",
          SETTING_TO_TEXT(struct options, index),
          .fallback = "/var/lib/fsyncfs/index, or ~/.local/state/fsyncfs/index",
          .help = "what is known of workspaces (/var/lib/fsyncfs/index)" },
        { .name = "hash",
          .argument = "HOW",
          .expects = "xxh3 or sha256",
          .choices = "xxh3 sha256",
          .set = set_hash,
          .field = SETTING_FIELD(struct options, hash, enum hash_algorithm),
          .fallback = "xxh3",
          .help = "how contents are named: xxh3 (default) or sha256" },
        { .name = "token-file",
          .kind = SETTING_PATH,
          .argument = "FILE",
          .expects = "a file",
          SETTING_TO_TEXT(struct options, token_file),
          .help = "workers must send one of these tokens" },
        { .name = "tls-cert",
          .kind = SETTING_PATH,
          .argument = "FILE",
          .expects = "a file",
          SETTING_TO_TEXT(struct options, tls_cert),
          .help = "speak TLS with this certificate" },
        { .name = "tls-key",
          .kind = SETTING_PATH,
          .argument = "FILE",
          .expects = "a file",
          SETTING_TO_TEXT(struct options, tls_key),
          .help = "the certificate's key" },
        { .name = "tls-client-ca",
          .kind = SETTING_PATH,
          .argument = "FILE",
          .expects = "a file",
          SETTING_TO_TEXT(struct options, tls_client_ca),
          .help = "workers must show a certificate of a CA in FILE" },
        { .name = "insecure",
          .kind = SETTING_FLAG,
          SETTING_TO_FLAG(struct options, insecure),
          .help = "serve other machines without tokens and TLS" },
        { .name = "watch",
          .argument = "HOW",
          .expects = "auto, fanotify, inotify or off",
          .choices = "auto fanotify inotify off",
          SETTING_TO_CHOICE(struct options, watch),
          .fallback = "auto",
          .help = "auto (default), fanotify, inotify or off" },
        { .name = "stat-pass",
          .argument = "SECONDS",
          .expects = "seconds, from 1 to 86400",
          SETTING_TO_NUMBER(struct options, stat_pass_sec, 1, SECONDS_MAX),
          .fallback = "600",
          .help = "walk over what is in use this often (600)" },
        { .name = "scan-ttl",
          .argument = "SECONDS",
          .expects = "seconds, from 0 to 86400",
          SETTING_TO_NUMBER(struct options, scan_ttl_sec, 0, SECONDS_MAX),
          .fallback = "60",
          .help = "how old stock workers' listings may get (60)" },
        { .name = "peer-connections",
          .argument = "N",
          .expects = "a number, from 1 to 1000000",
          SETTING_TO_NUMBER(struct options, peer_connections, 1, COUNT_MAX),
          .fallback = "4096, at most a quarter of all",
          .help = "connections that one address may have (4096)" },
        { .name = "peer-calls",
          .argument = "N",
          .expects = "a number, from 1 to 1000000",
          SETTING_TO_NUMBER(struct options, peer_calls, 1, COUNT_MAX),
          .fallback = "4096",
          .help = "calls that one address may have under way (4096)" },
        { .name = "metrics",
          .argument = "ADDR:PORT",
          .expects = "ADDR:PORT",
          SETTING_TO_TEXT(struct options, metrics),
          .help = "status page, /metrics, /healthz and /readyz" },
        { .name = "log-level",
          .argument = "LEVEL",
          .expects = "error, warning, info or debug",
          .choices = "error warning info debug",
          SETTING_TO_CHOICE(struct options, log_level),
          .fallback = "info",
          .help = "error, warning, info (default) or debug" },
        { .name = "log-format",
          .argument = "FORMAT",
          .expects = "text or json",
          .choices = "text json",
          SETTING_TO_CHOICE(struct options, log_format),
          .fallback = "text",
          .help = "text (default), or json: an object a line" },
        { .name = "config",
          .kind = SETTING_PATH,
          .not_in = SETTING_IN(SETTING_FILE),
          .argument = "FILE",
          .expects = "a file",
          .fallback = OPTIONS_CONFIG_DEFAULT,
          .help = "read FILE, not " OPTIONS_CONFIG_DEFAULT },
        { .name = "check-config",
          .kind = SETTING_FLAG,
          .not_in = SETTING_COMMAND_ONLY,
          .help = "say what is wrong and what is in force, and exit" },
        { .name = "help", .kind = SETTING_FLAG, .not_in = SETTING_COMMAND_ONLY, .help = "print this" },
        { .name = "version",
          .kind = SETTING_FLAG,
          .not_in = SETTING_COMMAND_ONLY,
          .help = "print the version" },
};

const struct setting_table server_option_table = {
        .rows = rows,
        .n = ARRAY_SIZE(rows),
        .what = "option",
        .prefix = "--",
        .separator = " ",
        .negation = "no-",
        .environment = "FSYNCFS_SERVER_",
};

/* ---- the command line ---- */

/* What it says, before it is known which configuration it goes on top of. */
struct command_line {
        struct argument {
                const struct setting *row;
                const char *value; /* borrowed from argv; NULL: none */
                bool negated;
        } arguments[ARGUMENTS_MAX];
        size_t n;
        const char *config; /* --config; NULL: none */
        bool check, help, version;
};

static enum options_result wrong(const char *what, const char *value, const char *hint)
{
        fprintf(stderr, "fsyncfs-server: %s '%.*s'%s\n", what, (int)strcspn(value, "="), value,
                hint && hint[0] ? hint : "; see fsyncfs-server --help");
        return OPTIONS_USAGE;
}

/* Two entries a flag at most: --NAME and --no-NAME. Their numbers are twice the row's, and one more for the latter. */
static void make_getopt_table(struct option ret[2 * ARRAY_SIZE(rows) + 1], char names[ARRAY_SIZE(rows)][32])
{
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                int argument = rows[i].argument ? required_argument : no_argument;

                ret[n++] = (struct option){ rows[i].name, argument, NULL, (int)(2 * i + 1) };
                if (rows[i].kind != SETTING_FLAG || rows[i].not_in)
                        continue;
                snprintf(names[i], sizeof(names[i]), "%s%s", server_option_table.negation, rows[i].name);
                ret[n++] = (struct option){ names[i], no_argument, NULL, (int)(2 * i + 2) };
        }
        ret[n] = (struct option){ 0 };
}

static enum options_result take_argument(struct command_line *line, int option, const char *value)
{
        const struct setting *row = &rows[(option - 1) / 2];

        if (line->n == ARGUMENTS_MAX)
                return wrong("too many options, the last being", row->name, NULL);
        line->arguments[line->n++] =
                (struct argument){ .row = row, .value = value, .negated = option % 2 == 0 };
        if (strcmp(row->name, "config") == 0)
                line->config = value;
        line->check = line->check || strcmp(row->name, "check-config") == 0;
        line->help = line->help || strcmp(row->name, "help") == 0;
        line->version = line->version || strcmp(row->name, "version") == 0;
        return OPTIONS_RUN;
}

static enum options_result say_unknown(const char *word)
{
        _cleanup_free_ char *name = strndup(word, strcspn(word, "="));
        char hint[128] = "";

        if (name && strncmp(name, "--", 2) == 0)
                setting_suggest(&server_option_table, SETTING_COMMAND, name + 2, hint);
        return wrong("unknown option", word, hint);
}

static enum options_result read_command_line(int argc, char **argv, struct command_line *ret)
{
        struct option table[2 * ARRAY_SIZE(rows) + 1];
        char names[ARRAY_SIZE(rows)][32];
        int option;

        make_getopt_table(table, names);
        opterr = 0; /* we say it ourselves, in one line */
        while ((option = getopt_long(argc, argv, ":", table, NULL)) != -1) {
                enum options_result result;
                if (option == ':')
                        return wrong("a value is missing after", argv[optind - 1], NULL);
                if (option == '?')
                        return say_unknown(argv[optind - 1]);
                result = take_argument(ret, option, optarg);
                if (result != OPTIONS_RUN)
                        return result;
        }
        if (optind < argc)
                return wrong("unexpected argument", argv[optind], NULL);
        return OPTIONS_RUN;
}

/* ---- layers ---- */

static void tell_failure(struct settings_faults *faults, int error, const struct failure *failure)
{
        if (error < 0)
                settings_tell_fault(faults, failure_text(failure, error));
}

/* The section may be named, and need not. */
static int take_line(struct options_source *source, const struct config_line *line, struct failure *failure)
{
        if (line->section[0] && strcmp(line->section, "server") != 0)
                return failure_set(failure, -EINVAL, "%s:%u: unknown section [%s]; the only one is [server]",
                                   source->file.path, line->number, line->section);
        return settings_take_line(&source->settings, &source->file, line, failure);
}

static void take_file(struct options_source *source, const char *named, struct settings_faults *faults)
{
        const char *path = named ? named : secure_getenv("FSYNCFS_SERVER_CONFIG");
        struct failure failure = { 0 };
        int r;

        if (path && !path[0] && !named)
                path = NULL;
        r = config_file_read(path ? path : OPTIONS_CONFIG_DEFAULT, &source->file, &failure);
        if (r != -ENOENT || path)
                tell_failure(faults, r, &failure);
        for (size_t i = 0; i < source->file.n; i++) {
                failure = (struct failure){ 0 };
                tell_failure(faults, take_line(source, &source->file.lines[i], &failure), &failure);
        }
}

static void take_command_line(struct options_source *source, const struct command_line *line,
                              struct settings_faults *faults)
{
        static const struct setting_origin origin = { .layer = SETTING_COMMAND };

        for (size_t i = 0; i < line->n; i++) {
                const struct argument *argument = &line->arguments[i];
                struct failure failure = { 0 };
                int r = argument->negated ? settings_undo(&source->settings, argument->row, &origin)
                                          : settings_take(&source->settings, argument->row, argument->value,
                                                          &origin, &failure);

                tell_failure(faults, r, &failure);
        }
}

/* What can be said only of all of them together. */
static void check(const struct options *o, struct settings_faults *faults)
{
        const char *lacking = NULL;

        if (!o->workspace)
                lacking = "--workspace DIR is missing";
        else if (o->tls_cert && !o->tls_key)
                lacking = "--tls-cert needs --tls-key FILE";
        else if (o->tls_key && !o->tls_cert)
                lacking = "--tls-key needs --tls-cert FILE";
        else if (o->tls_client_ca && !o->tls_cert)
                lacking = "--tls-client-ca needs --tls-cert FILE and --tls-key FILE";
        if (lacking) {
                char text[160];

                snprintf(text, sizeof(text), "%s; see fsyncfs-server --help", lacking);
                settings_tell_fault(faults, text);
        }
}

int options_default_index(struct buffer *ret)
{
        const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

        if (geteuid() == 0)
                return buffer_printf(ret, "/var/lib/fsyncfs/index");
        if (state && state[0] == '/')
                return buffer_printf(ret, "%s/fsyncfs/index", state);
        if (home && home[0] == '/')
                return buffer_printf(ret, "%s/.local/state/fsyncfs/index", home);
        return -ENOENT;
}

static enum options_result settle(const struct command_line *line, struct options_source *source,
                                  struct options *o)
{
        struct settings_faults faults = { .program = "fsyncfs-server", .all = line->check };

        if (settings_init(&source->settings, &server_option_table, o) < 0) {
                fprintf(stderr, "fsyncfs-server: %s\n", strerror(ENOMEM));
                return OPTIONS_USAGE;
        }
        take_file(source, line->config, &faults);
        settings_take_environment(&source->settings, settings_tell_fault, &faults);
        take_command_line(source, line, &faults);
        if (faults.n == 0)
                check(o, &faults);
        if (!line->check)
                return faults.n == 0 ? OPTIONS_RUN : OPTIONS_USAGE;
        settings_print(&source->settings, stdout);
        return faults.n == 0 ? OPTIONS_DONE : OPTIONS_FAULT;
}

static enum options_result print_help(void)
{
        puts("usage: fsyncfs-server --workspace DIR [OPTION]...\n"
             "       fsyncfs-server fence SPIDER: does every worker show a version?");
        setting_print_help(&server_option_table, stdout);
        return OPTIONS_DONE;
}

enum options_result options_parse(int argc, char **argv, struct options_source *source, struct options *ret)
{
        struct command_line line = { 0 };
        enum options_result result;

        *ret = (struct options){
                .hash = HASH_XXH3,
                .scan_ttl_sec = SCAN_TTL_SEC,
                .stat_pass_sec = STAT_PASS_SEC,
                .log_level = LOG_LEVEL_INFO,
                .watch_drop_percent = (unsigned)from_environment("FSYNCFS_TEST_WATCH_DROP"),
                .journal_max = from_environment("FSYNCFS_TEST_JOURNAL_MAX"),
        };
        if (argc > 1 && strcmp(argv[1], "--complete") == 0) { /* for the shells' completions */
                if (argc == 3 && strncmp("fence", argv[2], strlen(argv[2])) == 0)
                        puts("fence\twhether every worker shows a version");
                setting_complete(&server_option_table, argc - 2, argv + 2, stdout);
                return OPTIONS_DONE;
        }
        result = read_command_line(argc, argv, &line);
        if (result != OPTIONS_RUN)
                return result;
        if (line.help)
                return print_help();
        if (line.version) {
                puts("fsyncfs-server " FSYNCFS_VERSION);
                return OPTIONS_DONE;
        }
        return settle(&line, source, ret);
}

void options_source_release(struct options_source *source)
{
        settings_release(&source->settings);
        config_file_release(&source->file);
}
