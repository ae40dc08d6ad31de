/*
 * One line on the terminal of standard error that is written over again and again: how far something is. Whether there is a terminal is the caller's to know.
 */
#pragma once

#include "base/util.h"

/** How many columns the line may take without reaching the edge, where it would wrap and could not be written over any more; of 80 if the terminal does not say. */
int terminal_line_room(void);

/** Puts the line there in place of the one before, cut to its room. */
void terminal_line_show(const char *format, ...) _printf_(1, 2);

/** Takes it off, so that something else may be printed. */
void terminal_line_clear(void);
