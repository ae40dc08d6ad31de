/*
 * Who may call what, for all methods of all services: the rpc runtime asks here before a call begins, for each message that comes, and before each
 * that goes. No method has to think of it. Which spider a request is about is found by the field `spider_id` of the method's request in the
 * .proto files, so that a new method is covered by being described there.
 */
#pragma once

#include "proto/rpc_guard.h"
#include "server/token_file.h"

/** The hooks of a server; their `context` is the struct token_file. */
extern const struct rpc_guard_ops access_guard;

#define ACCESS_NAME_MAX 128

/** What PASS, of this guard with TOKENS, is called where people read it: nothing of a token is in it. NULL: whoever comes is let in. */
const char *access_name(struct token_file *tokens, const void *pass, char buf[ACCESS_NAME_MAX]);

/** The number of `spider_id` in the request of METHOD ("/package.Service/Method"); 0: it has none; -ENOENT: no .proto file describes METHOD. */
int access_spider_field(const char *method);
