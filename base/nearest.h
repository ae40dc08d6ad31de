/*
 * The known word that somebody probably meant who typed another one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define NEAREST_WORD_MAX 63 /* longer words are never near anything */

/** The search so far. A zeroed struct but for TYPED, which is borrowed. */
struct nearest {
        const char *typed;
        const char *word; /* borrowed from nearest_offer; NULL: nothing is near */
        unsigned distance;
};

/**
 * Offers one known WORD, which stays borrowed. It is near if a third of its letters at most would have to be changed, left out, put in or swapped with the next one, or if what was
 * typed begins it. Of equally near ones the first is kept.
 */
void nearest_offer(struct nearest *nearest, const char *word);
