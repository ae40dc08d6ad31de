#include "server/fence.h"

#include <getopt.h>
#include <string.h>

#include "base/hash.h"
#include "base/lock.h"
#include "base/log.h"
#include "proto/control.pb-c.h"
#include "proto/wire.h"
#include "server/control.h"
#include "server/options.h"
#include "server/status.h"

#define CONNECT_MS 5000
#define WAIT_MAX   (24 * 3600)

enum {
        EXIT_SHOWN = 0,
        EXIT_BEHIND = 1,
        EXIT_USAGE = 2,
        EXIT_TROUBLE = 3,
};

static const char help[] =
        "Usage: fsyncfs-server fence SPIDER [--version VERSION] [--wait[=SECONDS]] [--index DIR]\n"
        "Asks the server that runs on this machine whether every connected worker shows a version of "
        "SPIDER.\n\n"
        "  --version VERSION  the version, as fsyncfs version prints it (default: the one that is there "
        "now)\n"
        "  --wait[=SECONDS]   wait until they do, for so long (default: for ever)\n"
        "  --index DIR        the server's --index, if it is not the default\n\n"
        "Exit code: 0 all show it; 1 some do not, and are named; 2 wrong call; 3 the server cannot be "
        "asked.\n";

struct fence {
        const char *spider, *index; /* borrowed from argv; index NULL: the default */
        bool given;
        uint8_t digest[HASH_BYTES]; /* if given */
        bool wait;
        unsigned wait_sec; /* 0: for ever */
};

/* ---- the call ---- */

static int wrong(const char *what, const char *value)
{
        fprintf(stderr, "fsyncfs-server: fence: %s '%s'; see fsyncfs-server fence --help\n", what, value);
        return EXIT_USAGE;
}

static int take_wait(struct fence *f, const char *value)
{
        char *end = NULL;
        unsigned long n = value ? strtoul(value, &end, 10) : 0;

        f->wait = true;
        if (value && (value[0] < '0' || value[0] > '9' || *end || n == 0 || n > WAIT_MAX))
                return wrong("--wait needs a number of seconds, 1 to 86400, not", value);
        f->wait_sec = (unsigned)n;
        return -1;
}

/* Of XXH3-128 or of SHA-256: the length tells. */
static int take_version(struct fence *f, const char *value)
{
        const size_t len = strlen(value) / 2;

        f->given = true;
        if (hash_of_len(len) == HASH_NONE || hex_decode(value, strlen(value), f->digest, len) < 0)
                return wrong("--version needs 32 or 64 hexadecimal digits, not", value);
        memset(f->digest + len, 0, HASH_BYTES - len);
        return -1;
}

static int take_option(struct fence *f, int option, const char *value)
{
        switch (option) {
        case 'v':
                return take_version(f, value);
        case 'w':
                return take_wait(f, value);
        case 'i':
                f->index = value;
                return -1;
        case 'h':
                fputs(help, stdout);
                return EXIT_SHOWN;
        default:
                return wrong("unknown option, or one without its value:", value ?: "");
        }
}

static const struct option options[] = {
        { "version", required_argument, NULL, 'v' },
        { "wait", optional_argument, NULL, 'w' },
        { "index", required_argument, NULL, 'i' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
};

/* An exit code, or -1: go on. */
static int parse(int argc, char **argv, struct fence *f)
{
        int option;

        opterr = 0;
        optind = 1;
        while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
                int code = take_option(f, option, option == '?' || option == ':' ? argv[optind - 1] : optarg);
                if (code >= 0)
                        return code;
        }
        if (argc - optind != 1)
                return argc == optind ? wrong("SPIDER is missing", "")
                                      : wrong("unexpected argument", argv[optind + 1]);
        f->spider = argv[optind];
        return -1;
}

/* ---- the answer ---- */

static void print_mount(const Fsyncfs__V1__FenceMount *m)
{
        char hex[2 * HASH_BYTES + 1] = "", line[1024];

        if (m->digest.len == HASH_BYTES)
                status_format_version(m->digest.data, hex);
        snprintf(line, sizeof(line), "%.*s (%.*s)", (int)m->node.len, (const char *)m->node.data,
                 (int)m->address.len, (const char *)m->address.data);
        log_make_printable(line);
        if (m->stock)
                printf("unknown: %s: a stock worker, which cannot say what it has\n", line);
        else if (hex[0])
                printf("behind:  %s: shows version %s, revision %llu\n", line, hex,
                       (unsigned long long)m->revision);
        else
                printf("unknown: %s: has not said yet what it shows\n", line);
}

static void print_reply(const struct fence *f, const Fsyncfs__V1__FenceReply *reply)
{
        char hex[2 * HASH_BYTES + 1] = "";

        if (reply->digest.len == HASH_BYTES)
                status_format_version(reply->digest.data, hex);
        printf("%s: version %s: %u mounts show it, %u do not\n", f->spider, hex, reply->showing,
               reply->n_behind_in_all);
        for (size_t i = 0; i < reply->n_behind; i++)
                print_mount(reply->behind[i]);
        if (reply->n_behind_in_all > reply->n_behind)
                printf("and %zu more\n", reply->n_behind_in_all - reply->n_behind);
}

/* ---- asking ---- */

static int send_request(const struct fence *f, struct rpc_stream *stream)
{
        Fsyncfs__V1__FenceRequest request = FSYNCFS__V1__FENCE_REQUEST__INIT;

        request.spider_id = (char *)f->spider;
        if (f->given)
                request.digest = (ProtobufCBinaryData){ HASH_BYTES, (uint8_t *)f->digest };
        return wire_send_only(stream, &request.base);
}

/* Ends the stream when the time is over, on a thread of its own. */
struct limit {
        struct rpc_stream *stream;
        int64_t until_ns;
        struct mutex lock;
        struct condition change;
        bool over TSA_GUARDED(lock); /* nobody waits any more */
        pthread_t thread;
};

static void *limit_main(void *arg)
{
        struct limit *l = arg;

        mutex_lock(&l->lock);
        while (!l->over && condition_wait_until(&l->change, &l->lock, l->until_ns) == 0)
                continue;
        if (!l->over)
                rpc_stream_expire(l->stream);
        mutex_unlock(&l->lock);
        return NULL;
}

static int limit_start(struct limit *l, struct rpc_stream *stream, unsigned sec)
{
        l->stream = stream;
        l->until_ns = clock_monotonic_ns() + sec * NSEC_PER_SEC;
        mutex_init(&l->lock);
        condition_init(&l->change);
        return -pthread_create(&l->thread, NULL, limit_main, l);
}

static void limit_stop(struct limit *l)
{
        mutex_lock(&l->lock);
        l->over = true;
        condition_signal(&l->change);
        mutex_unlock(&l->lock);
        pthread_join(l->thread, NULL);
}

/* The last answer until it is done, or the time is over; NULL: there was none. */
static Fsyncfs__V1__FenceReply *listen_to(const struct fence *f, struct rpc_stream *stream)
{
        Fsyncfs__V1__FenceReply *last = NULL;
        const uint8_t *data;
        size_t len;

        while (rpc_stream_receive(stream, &data, &len) == RPC_MESSAGE) {
                Fsyncfs__V1__FenceReply *reply = fsyncfs__v1__fence_reply__unpack(NULL, len, data);

                if (last)
                        fsyncfs__v1__fence_reply__free_unpacked(last, NULL);
                last = reply;
                if (!reply || reply->done || !f->wait)
                        break;
        }
        return last;
}

static int conclude(const struct fence *f, struct rpc_stream *stream, Fsyncfs__V1__FenceReply *reply)
{
        struct rpc_status status;
        int code;

        if (!reply) {
                rpc_stream_finish(stream, &status);
                fprintf(stderr, "fsyncfs-server: fence: %s\n",
                        status.message[0] ? status.message : rpc_code_name(status.code));
                return EXIT_TROUBLE;
        }
        print_reply(f, reply);
        code = reply->done ? EXIT_SHOWN : EXIT_BEHIND;
        fsyncfs__v1__fence_reply__free_unpacked(reply, NULL);
        return code;
}

static int ask(const struct fence *f, struct rpc_channel *channel)
{
        struct rpc_stream *stream;
        bool limited = f->wait_sec > 0;
        struct limit limit = { 0 };
        int code, r = rpc_stream_open(channel, WIRE_METHOD_FENCE, &(struct rpc_stream_options){ 0 }, &stream);

        if (r < 0)
                return EXIT_TROUBLE;
        if (limited && limit_start(&limit, stream, f->wait_sec) < 0) {
                rpc_stream_free(stream);
                return EXIT_TROUBLE;
        }
        send_request(f, stream); /* if it fails, so does receiving */
        code = conclude(f, stream, listen_to(f, stream));
        if (limited)
                limit_stop(&limit);
        rpc_stream_free(stream);
        return code;
}

static int run(const struct fence *f)
{
        _cleanup_buffer_ struct buffer index = { 0 }, address = { 0 };
        struct rpc_channel *channel;
        struct failure why = { 0 };
        int code, r = f->index ? buffer_printf(&index, "%s", f->index) : options_default_index(&index);

        if (r >= 0)
                r = control_address(index.data, &address);
        if (r >= 0)
                r = rpc_channel_new(address.data, &(struct rpc_channel_options){ 0 }, &channel);
        if (r < 0) {
                fprintf(stderr, "fsyncfs-server: fence: no control socket: %s\n", strerror(-r));
                return EXIT_TROUBLE;
        }
        r = rpc_channel_wait_ready(channel, CONNECT_MS, &why);
        if (r < 0)
                fprintf(stderr,
                        "fsyncfs-server: fence: no server answers on '%s': %s; is it running, is --index "
                        "right, "
                        "are you its user?\n",
                        address.data, strerror(-r));
        code = r < 0 ? EXIT_TROUBLE : ask(f, channel);
        rpc_channel_free(channel);
        return code;
}

void fence_complete(int n, char *const *words)
{
        const char *typed = words[n - 1], *last = n > 1 ? words[n - 2] : "";

        if (strcmp(last, "--index") == 0)
                puts(":dirs");
        else
                for (const struct option *o = options; o->name; o++)
                        if (strncmp(typed, "--", 2) == 0 &&
                            strncmp(o->name, typed + 2, strlen(typed + 2)) == 0)
                                printf("--%s\t\n", o->name);
}

int fence_main(int argc, char **argv)
{
        struct fence f = { 0 };
        int code = parse(argc, argv, &f);

        if (code >= 0)
                return code;
        rpc_init();
        code = run(&f);
        rpc_shutdown();
        return code;
}
