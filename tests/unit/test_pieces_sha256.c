/* All of test_pieces.c once more, with contents that are named by SHA-256. */
#define FIXTURE_BASE HASH_SHA256
#define FIXTURE_LEN  32

#include "tests/unit/test_pieces.c"
