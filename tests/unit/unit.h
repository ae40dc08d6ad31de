/*
 * What every unit test starts with: cmocka's headers in the order it wants them, and a main() that speaks
 * TAP.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/** Ends the test as skipped; WHY shows in its output, since cmocka takes no reason. */
#define unit_skip(why)                                                                                       \
        do {                                                                                                 \
                print_message("# skipped: %s\n", why);                                                       \
                skip();                                                                                      \
        } while (0)

/** main(): runs TESTS, an array of struct CMUnitTest, with TAP on standard output. */
#define UNIT_MAIN(tests)                                                                                     \
        int main(void)                                                                                       \
        {                                                                                                    \
                cmocka_set_message_output(CM_OUTPUT_TAP);                                                    \
                return cmocka_run_group_tests(tests, NULL, NULL);                                            \
        }
