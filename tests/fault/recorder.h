/*
 * What a program does to the files of one folder, recorded call by call: by standing between the program, SQLite included, and libc, in the program
 * itself. What is mapped (the store's usage file) is looked at with every other call and recorded as writes of whole pages. SQLite's index of the
 * log ("-shm") is left out, as it is made anew after a power cut.
 *
 * One thread. The folder has to be empty at first.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define RECORD_PATH_MAX 160

enum record_kind {
        RECORD_CREATE, /* PATH is a new file, INO */
        RECORD_FOLDER, /* PATH is a new folder, INO */
        RECORD_WRITE,  /* INO gets LEN bytes of DATA at OFFSET */
        RECORD_LENGTH, /* INO is OFFSET bytes long */
        RECORD_RENAME, /* INO: from PATH to TO */
        RECORD_UNLINK, /* PATH, INO */
        RECORD_ATTRIBUTES,
        RECORD_SYNC, /* INO, a file or a folder, which is PATH then */
};

struct record {
        enum record_kind kind;
        uint64_t ino;
        char path[RECORD_PATH_MAX], to[RECORD_PATH_MAX]; /* relative to the folder */
        uint64_t offset, len;
        uint8_t *data; /* owned by the recorder */
        mode_t mode;   /* RECORD_ATTRIBUTES, RECORD_SYNC */
        struct timespec mtime;
};

/** Records from now on what happens in FOLDER; MAPPED, a file in it, is mapped by who writes to it. */
void recorder_begin(const char *folder, const char *mapped);

/** No more; what was recorded stays. */
void recorder_end(void);

/** Frees what was recorded. */
void recorder_clear(void);

/** What was recorded: *RET_COUNT of them. Borrowed. */
const struct record *recorder_get(size_t *ret_count);

/** From now on the kernel's name for the running boot is what is in the file PATH; NULL: the true one. */
void recorder_set_boot(const char *path);
