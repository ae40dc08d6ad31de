/*
 * The words after -o that are not fsyncfs's own: those of the kernel and libfuse, and those of mount(8), fstab and systemd.
 */
#pragma once

/** 1: WORD is for the kernel and libfuse; 0: for others, who have read it; -ENOENT: nobody knows it. */
int foreign_option_find(const char *word);

/** Calls EACH for each such word: NAME, NAME=* where a value follows, or what a word begins with and a `*`. They are never freed. */
void foreign_options_each(void (*each)(void *arg, const char *word), void *arg);
