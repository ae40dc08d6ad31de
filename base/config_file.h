/*
 * A configuration file: its lines `KEY = VALUE`, each with the [SECTION] that it stands in and its number. What they mean is for who reads them. The format is that of libinih: `#` or
 * `;` begins a line that is a comment, ` ;` a comment at the end of a line; blanks around words do not count. One line has at most 197 bytes, a section's name 48.
 *
 * Read once and then only looked at; not thread-safe.
 */
#pragma once

#include "base/failure.h"

#define CONFIG_FILE_BYTES_MAX ((size_t)256 << 10)

struct config_line {
        unsigned number;             /* from 1 */
        char *section, *key, *value; /* section "" before the first [SECTION] */
};

struct config_file {
        char *path;
        struct config_line *lines;
        size_t n;
};

/**
 * Reads the file at PATH, a regular one (or /dev/null), also through symlinks. Negative errno with a line in FAILURE that names the file and, for a fault in it, the line: -ENOENT if
 * there is none, -EFBIG beyond CONFIG_FILE_BYTES_MAX, -EINVAL for what is no such file, others of open(2). May block on the disk.
 */
int config_file_read(const char *path, struct config_file *ret, struct failure *failure);

/** The same of the LEN bytes at TEXT; PATH is for messages. */
int config_file_parse(const char *path, const char *text, size_t len, struct config_file *ret,
                      struct failure *failure);

/** Frees it; a zeroed one is fine too. */
void config_file_release(struct config_file *file);
