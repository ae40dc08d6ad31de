/*
 * Whether output is coloured: as --color says, otherwise on a terminal alone, and not where NO_COLOR is set (https://no-color.org).
 */
#pragma once

#include <stdbool.h>

enum colour_when { COLOUR_AUTO = 0, COLOUR_ALWAYS, COLOUR_NEVER, COLOUR_WHENS };

extern const char *const colour_when_names[COLOUR_WHENS];

/** 0; -EINVAL: TEXT is none of the names. */
int colour_when_parse(const char *text, enum colour_when *ret);

/** Whether what is written to FD is to be coloured. */
bool colour_wanted(enum colour_when when, int fd);
