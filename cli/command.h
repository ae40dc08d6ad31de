/*
 * The operator's commands, one function each: they read their own arguments (argv[0] is the command's name)
 * and return the exit code: 0, 1 for a failure (said on stderr), 2 for a wrong call.
 */
#pragma once

#include <stdbool.h>

#include <jansson.h>

#define EXIT_USAGE 2

/**
 * A command. What it may be called with is said here once: --help, completion and the check of its options' names are made from ARGUMENTS, in which brackets hold what may be left out
 * and a word after an option is the option's value.
 */
struct command {
        const char *name;      /* "status"; "cache verify" for one of a group, whose own row is "cache" */
        const char *arguments; /* "DIR [--json]" */
        const char *help;      /* one line; NULL: for programs, not in --help */
        int (*run)(int argc, char **argv);
        int exit_usage; /* of a wrong call; 0: EXIT_USAGE */
};

extern const struct command command_table[];
extern const size_t command_count;

/** An option of a command, as ARGUMENTS has it. */
struct command_option {
        char name[32];     /* "--cache", "-o" */
        char argument[32]; /* "DIR"; empty: none */
};

#define COMMAND_OPTIONS_MAX 24

/** The options of COMMAND in their order, and how many they are; of letters that stand together, "[-lR]", each is one. */
size_t command_options(const struct command *command, struct command_option ret[COMMAND_OPTIONS_MAX]);

/** What OPTION does, in one line; NULL: nothing is known. */
const char *command_option_help(const struct command_option *option);

/** The command that the words after `fsyncfs` begin with; NULL: none. A group's row if no word names one of the group. */
const struct command *command_find(int n, char *const *words);

/** Whether COMMAND is the row of a group. */
bool command_is_group(const struct command *command);

/** Whether COMMAND is one of GROUP. */
bool command_is_of(const struct command *command, const struct command *group);

/** `fsyncfs help [COMMAND]`: prints it, or what all are. The exit code. */
int command_help(int n, char *const *words);

/** "unknown command", with one that was probably meant. The exit code. */
int command_say_unknown(int n, char *const *words);

/**
 * Looks for --help and for long options that COMMAND does not have among its words. True: one was found and was answered, the exit code is in *RET_CODE.
 */
bool command_answer(const struct command *command, int n, char *const *words, int *ret_code);

/** Says on stderr how the command NAME is called. Returns EXIT_USAGE. */
int command_usage(const char *name);

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
int command_complete(int argc, char **argv);

/** Writes VALUE, indented, to standard output. */
void print_json(const json_t *value);

/** Prints SIZE bytes as people read it ("1.5 GiB") into BUF, and returns BUF. */
const char *format_bytes(unsigned long long size, char buf[32]);
