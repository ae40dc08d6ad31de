/*
 * One parser under hostile bytes. A driver defines fuzz_one; built with FUZZ_LIBFUZZER it is a libFuzzer target, otherwise
 * a program that replays a folder of inputs, each with the same small damages every time, and speaks TAP.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/** Feeds LEN bytes to the parser and asserts what must hold whatever they are. */
void fuzz_one(const uint8_t *data, size_t len);
