/*
 * Where the log's lines go. Whoever should read them may have stopped: a pipe that nobody empties, a journal that hangs. A task's read that has something
 * to say waits for that a second at most, and only the first one: from then on, until somebody reads again, lines that are not taken are lost. Thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/** From now on to the system log, as RFC 3164 has its lines, and not to standard error. Before threads start. */
void log_sink_to_syslog(void);

/** Writes LEN bytes: a line with its end, or one for the system log. False: not all of it was taken. */
bool log_sink_put(const char *line, size_t len);
