#include "server/options.h"

#include <getopt.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define SCAN_TTL_SEC  60
#define STAT_PASS_SEC 600
#define SECONDS_MAX   (24 * 3600)
#define COUNT_MAX     1000000

static const char help[] =
        "Usage: fsyncfs-server --workspace DIR [OPTION]...\n"
        "Serves the folders beneath DIR, one per spider, to fsyncfs mounts and stock Crawlab workers.\n\n"
        "  --workspace DIR       the folder that holds the spiders' folders\n"
        "  --listen ADDRESS      HOST:PORT, [V6]:PORT or unix:PATH; may be repeated\n"
        "                        (default: port 9666, of all addresses if there are tokens or TLS,\n"
        "                        otherwise of this machine alone)\n"
        "  --index DIR           where what is known of the workspaces is kept, on a local disk\n"
        "                        (default: /var/lib/fsyncfs/index for root,\n"
        "                        $XDG_STATE_HOME/fsyncfs/index otherwise)\n"
        "  --watch HOW           how changes are noticed: auto (default: the best that works), fanotify,\n"
        "                        inotify, or off: then every request walks over the whole workspace\n"
        "  --stat-pass SECONDS   how often a workspace in use is walked over whatever the watcher says\n"
        "                        (default: 600)\n"
        "  --token-file FILE     workers must send one of the tokens in FILE, a line each, followed by the\n"
        "                        spiders that it opens (none: all); SIGHUP reads it again\n"
        "  --tls-cert FILE       speak TLS with this certificate; SIGHUP reads it again\n"
        "  --tls-key FILE        the certificate's key\n"
        "  --tls-client-ca FILE  workers must show a certificate that a CA in FILE has signed\n"
        "  --insecure            listen for other machines although there are neither tokens nor TLS\n"
        "  --scan-ttl SECONDS    how old a listing stock workers may get (default: 60)\n"
        "  --peer-connections N  how many connections one address may have (default: 4096, at most a\n"
        "                        quarter of what the limit of open files allows)\n"
        "  --peer-calls N        how many calls one address may have under way (default: 4096)\n"
        "  --metrics ADDR:PORT   serve a status page on http://ADDR:PORT/, and there /metrics for "
        "Prometheus,\n"
        "                        /status.json, /healthz and /readyz: for operators, not for everybody\n"
        "  --log-level LEVEL     error, warning, info (default) or debug\n"
        "  --help, --version\n\n"
        "fsyncfs-server fence SPIDER asks a running server whether every worker shows the present version.\n";

enum {
        OPT_WORKSPACE = 1,
        OPT_LISTEN,
        OPT_INDEX,
        OPT_TOKEN,
        OPT_TLS_CERT,
        OPT_TLS_KEY,
        OPT_TLS_CLIENT_CA,
        OPT_INSECURE,
        OPT_TTL,
        OPT_WATCH,
        OPT_STAT_PASS,
        OPT_PEER_CONNECTIONS,
        OPT_PEER_CALLS,
        OPT_METRICS,
        OPT_LOG,
        OPT_HELP,
        OPT_VERSION
};

static const struct option long_options[] = {
        { "workspace", required_argument, NULL, OPT_WORKSPACE },
        { "listen", required_argument, NULL, OPT_LISTEN },
        { "index", required_argument, NULL, OPT_INDEX },
        { "token-file", required_argument, NULL, OPT_TOKEN },
        { "tls-cert", required_argument, NULL, OPT_TLS_CERT },
        { "tls-key", required_argument, NULL, OPT_TLS_KEY },
        { "tls-client-ca", required_argument, NULL, OPT_TLS_CLIENT_CA },
        { "insecure", no_argument, NULL, OPT_INSECURE },
        { "scan-ttl", required_argument, NULL, OPT_TTL },
        { "watch", required_argument, NULL, OPT_WATCH },
        { "stat-pass", required_argument, NULL, OPT_STAT_PASS },
        { "peer-connections", required_argument, NULL, OPT_PEER_CONNECTIONS },
        { "peer-calls", required_argument, NULL, OPT_PEER_CALLS },
        { "metrics", required_argument, NULL, OPT_METRICS },
        { "log-level", required_argument, NULL, OPT_LOG },
        { "help", no_argument, NULL, OPT_HELP },
        { "version", no_argument, NULL, OPT_VERSION },
        { 0 },
};

static enum options_result wrong(const char *what, const char *value)
{
        fprintf(stderr, "fsyncfs-server: %s '%s'; see fsyncfs-server --help\n", what, value);
        return OPTIONS_USAGE;
}

static int parse_number(const char *text, int64_t least, int64_t most, int64_t *ret)
{
        char *end;
        long long n;

        errno = 0;
        n = strtoll(text, &end, 10);
        if (errno != 0 || end == text || *end || n < least || n > most)
                return -EINVAL;
        *ret = n;
        return 0;
}

static int parse_seconds(const char *text, int64_t *ret)
{
        return parse_number(text, 0, SECONDS_MAX, ret);
}

static int parse_count(const char *text, unsigned *ret)
{
        int64_t n;

        if (parse_number(text, 1, COUNT_MAX, &n) < 0)
                return -EINVAL;
        *ret = (unsigned)n;
        return 0;
}

static int parse_watch(const char *text, enum watcher_kind *ret)
{
        static const struct {
                const char *name;
                enum watcher_kind kind;
        } kinds[] = {
                { "auto", WATCHER_AUTO },
                { "fanotify", WATCHER_FANOTIFY },
                { "inotify", WATCHER_INOTIFY },
                { "off", WATCHER_OFF },
        };

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (strcmp(text, kinds[i].name) == 0) {
                        *ret = kinds[i].kind;
                        return 0;
                }
        return -EINVAL;
}

/* Knobs that tests turn; what cannot be read counts as 0. */
static uint64_t from_environment(const char *name)
{
        const char *text = getenv(name);

        return text ? strtoull(text, NULL, 10) : 0;
}

static enum options_result take_option(int option, const char *value, struct options *o)
{
        switch (option) {
        case OPT_WORKSPACE:
                o->workspace = value;
                break;
        case OPT_LISTEN:
                if (o->n_listen == OPTIONS_LISTEN_MAX)
                        return wrong("too many addresses to listen on, the last being", value);
                o->listen[o->n_listen++] = value;
                break;
        case OPT_INDEX:
                o->index = value;
                break;
        case OPT_TOKEN:
                o->token_file = value;
                break;
        case OPT_TLS_CERT:
                o->tls_cert = value;
                break;
        case OPT_TLS_KEY:
                o->tls_key = value;
                break;
        case OPT_TLS_CLIENT_CA:
                o->tls_client_ca = value;
                break;
        case OPT_INSECURE:
                o->insecure = true;
                break;
        case OPT_TTL:
                if (parse_seconds(value, &o->scan_ttl_sec) < 0)
                        return wrong("--scan-ttl needs a number of seconds, 0 to 86400, not", value);
                break;
        case OPT_WATCH:
                if (parse_watch(value, &o->watch) < 0)
                        return wrong("--watch needs auto, fanotify, inotify or off, not", value);
                break;
        case OPT_STAT_PASS:
                if (parse_seconds(value, &o->stat_pass_sec) < 0 || o->stat_pass_sec == 0)
                        return wrong("--stat-pass needs a number of seconds, 1 to 86400, not", value);
                break;
        case OPT_PEER_CONNECTIONS:
                if (parse_count(value, &o->peer_connections) < 0)
                        return wrong("--peer-connections needs a number, 1 to 1000000, not", value);
                break;
        case OPT_PEER_CALLS:
                if (parse_count(value, &o->peer_calls) < 0)
                        return wrong("--peer-calls needs a number, 1 to 1000000, not", value);
                break;
        case OPT_METRICS:
                o->metrics = value;
                break;
        case OPT_LOG:
                if (log_level_parse(value, &o->log_level) < 0)
                        return wrong("--log-level needs error, warning, info or debug, not", value);
                break;
        case OPT_HELP:
                fputs(help, stdout);
                return OPTIONS_DONE;
        case OPT_VERSION:
                puts("fsyncfs-server " FSYNCFS_VERSION);
                return OPTIONS_DONE;
        default:
                return OPTIONS_USAGE;
        }
        return OPTIONS_RUN;
}

/* What can be said only of all of them together. */
static enum options_result check(const struct options *o)
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
        if (!lacking)
                return OPTIONS_RUN;
        fprintf(stderr, "fsyncfs-server: %s; see fsyncfs-server --help\n", lacking);
        return OPTIONS_USAGE;
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

enum options_result options_parse(int argc, char **argv, struct options *ret)
{
        struct options o = {
                .scan_ttl_sec = SCAN_TTL_SEC,
                .stat_pass_sec = STAT_PASS_SEC,
                .log_level = LOG_LEVEL_INFO,
                .watch_drop_percent = (unsigned)from_environment("FSYNCFS_TEST_WATCH_DROP"),
                .journal_max = from_environment("FSYNCFS_TEST_JOURNAL_MAX"),
        };
        int option;

        opterr = 0; /* we say it ourselves, in one line */
        while ((option = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
                enum options_result result;
                if (option == ':')
                        return wrong("a value is missing after", argv[optind - 1]);
                if (option == '?')
                        return wrong("unknown option", argv[optind - 1]);
                result = take_option(option, optarg, &o);
                if (result != OPTIONS_RUN)
                        return result;
        }
        if (optind < argc)
                return wrong("unexpected argument", argv[optind]);
        if (check(&o) != OPTIONS_RUN)
                return OPTIONS_USAGE;
        *ret = o;
        return OPTIONS_RUN;
}
