/*
 * Where a setting goes: the setters of a setting table's rows, one for each type of field, and the initializers of a row that goes to such a field of the table's target.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/setting.h"

/** `field` of a row that goes to the field NAME of struct TARGET. It does not compile if that is of another TYPE. */
#define SETTING_FIELD(target, name, type)                                                                    \
        (offsetof(target, name) + 0 * sizeof(_Generic(((target *)NULL)->name, type : 0)))

/** A bool. */
#define SETTING_TO_FLAG(target, name) .set = setting_set_flag, .field = SETTING_FIELD(target, name, bool)

/** An unsigned, from FROM to TO, in decimal. */
#define SETTING_TO_NUMBER(target, name, from, to)                                                            \
        .set = setting_set_number, .field = SETTING_FIELD(target, name, unsigned), .least = (from),          \
        .most = (to)

/** An enum whose values, from 0, stand for the words of the row's `choices`, in their order. */
#define SETTING_TO_CHOICE(target, name)                                                                      \
        .set = setting_set_choice, .field = SETTING_FIELD(target, name, unsigned)

/** A const char *, borrowed from the settings; not empty. */
#define SETTING_TO_TEXT(target, name)                                                                        \
        .set = setting_set_text, .field = SETTING_FIELD(target, name, const char *)

/** A char *, owned by the target; see setting_set_path. */
#define SETTING_TO_PATH(target, name) .set = setting_set_path, .field = SETTING_FIELD(target, name, char *)

int setting_set_flag(const struct setting *row, void *field, const char *value);
int setting_set_number(const struct setting *row, void *field, const char *value);
int setting_set_choice(const struct setting *row, void *field, const char *value);
int setting_set_text(const struct setting *row, void *field, const char *value);

/** Puts a copy of VALUE in the place of a char *, which is freed. Also for setters that look at it before. -ENOMEM. */
int setting_set_copy(const struct setting *row, void *field, const char *value);

/** The same of a path, made absolute: for programs that leave their working folder. -EINVAL if it is empty; -ENOMEM. */
int setting_set_path(const struct setting *row, void *field, const char *value);

/** Reads digits of BASE, and nothing else, as a number of at most MOST. -EINVAL. */
int setting_parse_number(const char *text, int base, uint64_t most, uint64_t *ret);
