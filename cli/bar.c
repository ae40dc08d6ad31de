#include "cli/bar.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/terminal_line.h"
#include "cli/command.h"

#define BAR_WIDTH     24
#define BAR_WIDTH_MIN 4
#define TERMINAL_NS   (200 * NSEC_PER_MSEC)
#define PLAIN_NS      (10 * NSEC_PER_SEC)

void bar_begin(struct bar *bar, const char *label)
{
        *bar = (struct bar){ .label = label,
                             .terminal = isatty(STDERR_FILENO),
                             .began_ns = clock_monotonic_ns() };
        /* A line of its own is for what takes long; one that is written over can be there at once. */
        bar->shown_ns = bar->terminal ? bar->began_ns - TERMINAL_NS : bar->began_ns;
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
        char numbers[192], label[256];
        int width, filled, room;
        const char *shown;

        snprintf(numbers, sizeof(numbers), "%3.0f %%  ", share * 100);
        format_numbers(bar, s, numbers + strlen(numbers), sizeof(numbers) - strlen(numbers));
        snprintf(label, sizeof(label), "%s", bar->label);
        log_make_printable(label);
        /* Where there is no room for all the numbers stay longest: "LABEL [BAR] NUMBERS". */
        room = terminal_line_room() - (int)strlen(numbers) - 4;
        width = MIN(BAR_WIDTH, room);
        if (width < BAR_WIDTH_MIN) {
                terminal_line_show("%s", numbers);
        } else {
                filled = (int)(share * width);
                shown = label + MAX((int)strlen(label) - (room - width), 0); /* of a path the end says more */
                while ((*shown & 0xc0) == 0x80)
                        shown++;
                terminal_line_show("%s [%.*s%*s] %s", shown, filled, full, width - filled, "", numbers);
        }
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
                terminal_line_clear();
        bar->dirty = false;
}
