#include "cli/colour.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const colour_when_names[COLOUR_WHENS] = { "auto", "always", "never" };

int colour_when_parse(const char *text, enum colour_when *ret)
{
        for (enum colour_when when = 0; when < COLOUR_WHENS; when++) {
                if (strcmp(text, colour_when_names[when]) == 0) {
                        *ret = when;
                        return 0;
                }
        }
        return -EINVAL;
}

bool colour_wanted(enum colour_when when, int fd)
{
        const char *no_colour = getenv("NO_COLOR");

        if (when != COLOUR_AUTO)
                return when == COLOUR_ALWAYS;
        return isatty(fd) && !(no_colour && no_colour[0]);
}
