/*
 * The status page: what server/status.h says, for people. Plain HTML that refreshes itself; no script, nothing from anywhere else.
 */
#pragma once

#include <jansson.h>

#include "base/buffer.h"

#define PAGE_REFRESH_SEC 10
#define PAGE_POLICY_MAX  200

/** Appends the page of STATUS, of status_json. -ENOMEM. */
int page_format(const json_t *status, struct buffer *out);

/** The Content-Security-Policy that lets the page have its own style and nothing else. */
const char *page_policy(char buf[PAGE_POLICY_MAX]);
