#include "cli/bar.h"

#include <string.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/command.h"

#define BAR_WIDTH   24
#define TERMINAL_NS (200 * NSEC_PER_MSEC)
#define PLAIN_NS    (10 * NSEC_PER_SEC)
#define COLUMNS     80

void bar_begin(struct bar *bar, const char *label)
{
        *bar = (struct bar){ .label = label,
                             .terminal = isatty(STDERR_FILENO),
                             .began_ns = clock_monotonic_ns() };
        /* A line of its own is for what takes long; one that is written over can be there at once. */
        bar->shown_ns = bar->terminal ? bar->began_ns - TERMINAL_NS : bar->began_ns;
}

static int columns(void)
{
        struct winsize size;

        return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : COLUMNS;
}

/* "1 h 02 min", "3 min 20 s", "7 s" */
static void format_left(double seconds, char *buf, size_t len)
{
        unsigned long s = seconds < 1e6 ? (unsigned long)(seconds + 0.5) : 1000000;

        if (s >= 3600)
                snprintf(buf, len, "%lu h %02lu min left", s / 3600, s / 60 % 60);
        else if (s >= 60)
                snprintf(buf, len, "%lu min %02lu s left", s / 60, s % 60);
        else
                snprintf(buf, len, "%lu s left", s);
}

/* Everything but label and bar. */
static void format_numbers(const struct bar *bar, const struct bar_state *s, char *buf, size_t len)
{
        double seconds = (double)(clock_monotonic_ns() - bar->began_ns) / (double)NSEC_PER_SEC;
        double rate = seconds > 0 ? (double)s->moved_bytes / seconds : 0;
        char of[32], have[32], speed[32], left[40] = "";

        if (rate > 0 && s->total_bytes >= s->bytes && s->counted)
                format_left((double)(s->total_bytes - s->bytes) / rate, left, sizeof(left));
        snprintf(buf, len, "%s of %s%s  %s/s%s%s", format_bytes(s->bytes, have),
                 format_bytes(s->total_bytes, of), s->counted ? "" : "+",
                 format_bytes((unsigned long long)rate, speed), left[0] ? "  " : "", left);
}

static void show_bar(struct bar *bar, const struct bar_state *s)
{
        static const char full[] = "########################";
        double share = s->total_bytes > 0 ? MIN((double)s->bytes / (double)s->total_bytes, 1.0) : 0;
        int filled = (int)(share * BAR_WIDTH), room;
        const char *shown;
        char numbers[160], label[256];

        format_numbers(bar, s, numbers, sizeof(numbers));
        snprintf(label, sizeof(label), "%s", bar->label);
        log_make_printable(label);
        /* The line must not wrap, or it cannot be written over: " [" bar "] 100 %  " */
        room = columns() - 1 - (int)strlen(numbers) - BAR_WIDTH - 11;
        shown = label + MAX((int)strlen(label) - MAX(room, 0), 0); /* of a path the end says more */
        while ((*shown & 0xc0) == 0x80)
                shown++;
        fprintf(stderr, "\r%s [%.*s%*s] %3.0f %%  %s\033[K", shown, filled, full, BAR_WIDTH - filled, "",
                share * 100, numbers);
        bar->dirty = true;
}

void bar_show(struct bar *bar, const struct bar_state *state)
{
        int64_t now = clock_monotonic_ns();
        char numbers[160];

        if (now - bar->shown_ns < (bar->terminal ? TERMINAL_NS : PLAIN_NS))
                return;
        bar->shown_ns = now;
        if (bar->terminal) {
                show_bar(bar, state);
                return;
        }
        format_numbers(bar, state, numbers, sizeof(numbers));
        fprintf(stderr, "%s: %s\n", bar->label, numbers);
}

void bar_clear(struct bar *bar)
{
        if (bar->dirty)
                fputs("\r\033[K", stderr);
        bar->dirty = false;
}
