/*
 * Why something failed, as one line for the person who asked: what failed, on which host or path, what to
 * try. Travels beside the negative errno where a number says too little.
 */
#pragma once

#include "base/util.h"

struct failure {
        char text[512]; /* empty: nothing to add to the errno */
};

/** Sets the text (FAILURE may be NULL) and returns ERROR, so that it can end a function: return
 * failure_set(f, -EIO, ...). */
int failure_set(struct failure *failure, int error, const char *format, ...) _printf_(3, 4);

/** The text, or the errno's where there is none. */
const char *failure_text(const struct failure *failure, int error);
