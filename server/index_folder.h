/*
 * The folder of all that a server keeps, --index: where it is, and that it is one server's at a time.
 */
#pragma once

#include "base/buffer.h"

struct index_folder {
        struct buffer path;
        int lock; /* of the file `lock` in it, as long as the server lives; -1: none */
};

#define INDEX_FOLDER_NONE ((struct index_folder){ .lock = -1 })

/**
 * Makes the folder if need be and takes it; NAMED: --index, NULL for the calling user's default. -EBUSY: another server has it, and
 * nothing of it was touched; otherwise errors of mkdir(2), open(2) and flock(2). The log says what is wrong. RET is to be released in any case.
 */
int index_folder_open(const char *named, struct index_folder *ret);

void index_folder_release(struct index_folder *folder);
