/*
 * Files on disk as hostile input: a folder made once, and for each input a copy of it in which bytes are changed.
 *
 * An input is a list of changes: the first byte says of which file, then six bytes each: an offset (three bytes), how it is meant (from the beginning or the
 * end, a change or a cut), and two bytes to put there.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/** A folder for the test alone, removed at the end of the program. */
const char *folder_new(void);

/** Copies the file FROM to TO, with the changes of the LEN bytes at DATA (without the first byte). */
void folder_copy_damaged(const char *from, const char *to, const uint8_t *data, size_t len);
