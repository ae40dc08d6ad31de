/*
 * The operator's commands, one function each: they read their own arguments (argv[0] is the command's name)
 * and return the exit code: 0, 1 for a failure (said on stderr), 2 for a wrong call.
 */
#pragma once

#include <jansson.h>

#define EXIT_USAGE 2

int command_mount(int argc, char **argv);
int command_mount_helper(int argc, char **argv);
int command_status(int argc, char **argv);
int command_version(int argc, char **argv);
int command_refresh(int argc, char **argv);
int command_prefetch(int argc, char **argv);
int command_stat(int argc, char **argv);
int command_upgrade(int argc, char **argv);
int command_ls(int argc, char **argv);
int command_cat(int argc, char **argv);
int command_export(int argc, char **argv);
int command_trace(int argc, char **argv);
int command_explain(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_bugreport(int argc, char **argv);
int command_top(int argc, char **argv);
int command_diff(int argc, char **argv);
int command_cache(int argc, char **argv);

/** Writes VALUE, indented, to standard output. */
void print_json(const json_t *value);

/** Prints SIZE bytes as people read it ("1.5 GiB") into BUF, and returns BUF. */
const char *format_bytes(unsigned long long size, char buf[32]);
