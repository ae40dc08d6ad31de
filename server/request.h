/*
 * What protobuf-c does not tell about a request.
 */
#pragma once

#include <stdbool.h>

#include "base/util.h"

/**
 * True if a string field of the message holds a NUL. protobuf-c hands strings over as C strings: "a\0/../b" would be taken
 * for "a". STRINGS has bit N set for each string field N (1..31) of the message, at its top level.
 */
bool request_hides_nul(const uint8_t *data, size_t len, uint32_t strings);
