#include "cli/top.h"

#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "cli/command.h"

#define ANSWER_MS       3000 /* how long a batch waits for those that do not answer */
#define INTERVAL_MIN_MS 100

struct top_call {
        const char *dir;
        unsigned batch; /* 0: until q */
        unsigned interval_ms;
        bool json;
};

/* ---- the terminal ---- */

static volatile sig_atomic_t ended;

static void note_end(int number)
{
        ended = 1;
}

/* There is another size: poll ends, and all is drawn again. */
static void note_size(int number)
{
}

/* As it was: given back in any case, or the user sees nothing of what is typed next. */
static void set_terminal(const struct termios *how, const char *screen)
{
        tcsetattr(STDIN_FILENO, TCSAFLUSH, how);
        fputs(screen, stdout);
        fflush(stdout);
}

/* True: somebody wants to leave. */
static bool wait_for_key(unsigned ms)
{
        struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
        char key;

        if (poll(&in, 1, (int)ms) <= 0)
                return ended;
        return read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q' || key == 3 || key == 4;
}

static void draw(struct top *top)
{
        struct winsize size = { .ws_row = 24, .ws_col = 80 };

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
                size = (struct winsize){ .ws_row = 24, .ws_col = 80 };
        fputs("\033[H", stdout);
        top_show(top, stdout, size.ws_col, size.ws_row - 1);
        fputs("\033[J", stdout);
        fflush(stdout);
}

static int run_terminal(struct top *top, unsigned interval_ms)
{
        const struct sigaction end = { .sa_handler = note_end }, size = { .sa_handler = note_size };
        struct termios before, raw;

        if (tcgetattr(STDIN_FILENO, &before) < 0)
                return 1;
        raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG);
        sigaction(SIGTERM, &end, NULL);
        sigaction(SIGHUP, &end, NULL);
        sigaction(SIGINT, &end, NULL); /* of kill(1): the terminal's Ctrl-C is a key here */
        sigaction(SIGWINCH, &size, NULL);
        /* Another screen, without a cursor, on which a long line ends at the edge. */
        set_terminal(&raw, "\033[?1049h\033[?25l\033[?7l");
        top_await(top, 1, interval_ms);
        do
                draw(top);
        while (!ended && !wait_for_key(interval_ms));
        set_terminal(&before, "\033[?7h\033[?25h\033[?1049l");
        return 0;
}

/* ---- lines ---- */

static int run_batch(struct top *top, const struct top_call *call)
{
        for (unsigned i = 0; i < call->batch; i++) {
                json_t *object;

                /* Rates need two samples. */
                top_await(top, i + 2, call->interval_ms + ANSWER_MS);
                if (!call->json) {
                        top_show(top, stdout, 0, 0);
                        putchar('\n');
                } else if ((object = top_json(top))) {
                        json_dumpf(object, stdout, JSON_COMPACT);
                        putchar('\n');
                        json_decref(object);
                }
                if (fflush(stdout) != 0)
                        return 1;
        }
        return 0;
}

/* ---- the command ---- */

/* 0, or the exit code of a wrong call, which was said. */
static int parse(int argc, char **argv, struct top_call *call)
{
        static const struct option options[] = { { "batch", required_argument, NULL, 'b' },
                                                 { "interval", required_argument, NULL, 'i' },
                                                 { "json", no_argument, NULL, 'j' },
                                                 { 0 } };
        bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
        double seconds = 1;
        long batch = 0;
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1 && opt != '?') {
                call->json = call->json || opt == 'j';
                if (opt == 'b')
                        batch = strtol(optarg, NULL, 10);
                if (opt == 'i')
                        seconds = strtod(optarg, NULL);
                if ((opt == 'b' && (batch < 1 || batch > 1000000)) || !(seconds > 0 && seconds <= 3600))
                        break;
        }
        if (opt != -1 || argc - optind > 1)
                return command_usage("top");
        call->dir = argv[optind];
        call->batch = batch > 0 ? (unsigned)batch : terminal && !call->json ? 0 : 1;
        call->interval_ms = MAX((unsigned)(seconds * 1000), INTERVAL_MIN_MS);
        return 0;
}

int command_top(int argc, char **argv)
{
        struct top_call call = { 0 };
        struct mounts mounts;
        struct top *top;
        int r = parse(argc, argv, &call);

        if (r != 0)
                return r;
        if (mounts_need(call.dir, &mounts) != 0)
                return 1;
        r = top_start(&mounts, call.interval_ms, &top);
        mounts_release(&mounts);
        if (r < 0) {
                fprintf(stderr, "fsyncfs: %s\n", strerror(-r));
                return 1;
        }
        return call.batch > 0 ? run_batch(top, &call) : run_terminal(top, call.interval_ms);
}
