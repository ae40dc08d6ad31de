#include "base/nearest.h"

#include <string.h>

#include "base/util.h"

#define PREFIX_MIN 3 /* letters that must be there before the rest of a word is guessed */

/* Damerau's distance, without overlapping swaps. Three rows of the table are enough. */
static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
        unsigned rows[3][NEAREST_WORD_MAX + 1];
        unsigned *before = rows[0], *last = rows[1], *row = rows[2];

        for (size_t j = 0; j <= b_len; j++)
                last[j] = (unsigned)j;
        for (size_t i = 1; i <= a_len; i++) {
                unsigned *unused = before;

                row[0] = (unsigned)i;
                for (size_t j = 1; j <= b_len; j++) {
                        unsigned change = last[j - 1] + (a[i - 1] != b[j - 1]);
                        unsigned shift = MIN(last[j], row[j - 1]) + 1;

                        row[j] = MIN(change, shift);
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                row[j] = MIN(row[j], before[j - 2] + 1);
                }
                before = last;
                last = row;
                row = unused;
        }
        return last[b_len];
}

void nearest_offer(struct nearest *nearest, const char *word)
{
        size_t typed_len = strlen(nearest->typed), len = strlen(word);
        size_t allowed = MAX(len / 3, 1);
        bool begins = typed_len >= PREFIX_MIN && strncmp(word, nearest->typed, typed_len) == 0;
        unsigned far;

        if (typed_len == 0 || typed_len > NEAREST_WORD_MAX || len > NEAREST_WORD_MAX)
                return;
        /* Each letter too many or too few is one to change. */
        if (!begins && (typed_len > len + allowed || len > typed_len + allowed))
                return;
        far = distance(nearest->typed, typed_len, word, len);
        if (!begins && far > allowed)
                return;
        if (!nearest->word || far < nearest->distance) {
                nearest->word = word;
                nearest->distance = far;
        }
}
