/*
 * A program's options, as one table: the command line, the configuration file, the environment, --help, completion and the settings that --check-config prints are all made from it,
 * so that none of them knows an option that the others do not.
 *
 * A struct settings is what was said so far, and where. Layers are taken in rising order: file, environment, command line; what a later one says of an option replaces what an
 * earlier one said. Not thread-safe: options are read before there are threads.
 */
#pragma once

#include <stdbool.h>

#include "base/config_file.h"

enum setting_layer {
        SETTING_DEFAULT,
        SETTING_FILE,
        SETTING_ENVIRONMENT,
        SETTING_COMMAND,
};

enum setting_kind {
        SETTING_TEXT,
        SETTING_PATH, /* of a file or folder; absolute in a configuration file, which has no working folder */
        SETTING_LIST, /* may be given several times; separated by commas in the environment */
        SETTING_FLAG, /* given or not; in files and the environment yes or no */
};

#define SETTING_IN(layer) (1u << (layer))
/** What is told to the program once, by whoever calls it. */
#define SETTING_COMMAND_ONLY (SETTING_IN(SETTING_FILE) | SETTING_IN(SETTING_ENVIRONMENT))

struct setting {
        const char *name;
        enum setting_kind kind;
        unsigned not_in;      /* SETTING_IN bits: the layers that must not have it */
        const char *argument; /* what --help calls its value; NULL for flags */
        const char *expects;  /* ends "expected …"; NULL for flags */
        const char *
                choices; /* words that it may be, separated by blanks, for completion; NULL: none are known */
        const char *fallback; /* its default, as told to people; NULL: none */
        const char *help;     /* one line */
        /* Mandatory but for what is COMMAND_ONLY; base/setting_field.h has those of plain fields. FIELD is in the target. VALUE stays until the settings are released; a flag's is
         * "yes" or "no"; NULL for a list: forget what was said before. 0; -EINVAL for a value that is not as `expects` says; -E2BIG for too many of a list; -ENOMEM. */
        int (*set)(const struct setting *row, void *field, const char *value);
        size_t field;         /* how far into the target; 0: `set` gets the target itself */
        unsigned least, most; /* of a number */
};

struct setting_table {
        const struct setting *rows;
        size_t n;
        const char *what;        /* "option" */
        const char *prefix;      /* of a name on the command line: "--" */
        const char *separator;   /* between a name and its value there: " " or "=" */
        const char *negation;    /* before a flag's name there, to undo it: "no-" */
        const char *environment; /* before a name in the environment: "FSYNCFS_" */
};

/** Where something was said. */
struct setting_origin {
        enum setting_layer layer;
        const char *file; /* SETTING_FILE only; borrowed for as long as the settings */
        unsigned line;
};

/** What was said, once. */
struct setting_value {
        char *text; /* owned */
        struct setting_origin origin;
};

struct setting_state {
        struct setting_value *values; /* owned; of a list all of one layer, otherwise at most one */
        size_t n;
};

struct settings {
        const struct setting_table *table;
        void *target;                 /* what the rows set */
        struct setting_state *states; /* owned; one a row */
};

/** Begins with nothing said. -ENOMEM. */
int settings_init(struct settings *settings, const struct setting_table *table, void *target);

/** Forgets the texts, so that what was set with them must not be used any more. A zeroed one is fine too. */
void settings_release(struct settings *settings);

/** The row of the option with this name of NAME_LEN bytes; NULL. */
const struct setting *setting_find(const struct setting_table *table, const char *name, size_t name_len);

/** Puts "; did you mean 'X'?" into BUF for a NAME that is not in TABLE but near one that LAYER may have; otherwise "". Returns BUF. */
const char *setting_suggest(const struct setting_table *table, enum setting_layer layer, const char *name,
                            char buf[128]);

/** Sets ROW to VALUE (NULL: none was given). -EINVAL with a line in FAILURE that says where, what and what was expected; -ENOMEM. */
int settings_take(struct settings *settings, const struct setting *row, const char *value,
                  const struct setting_origin *origin, struct failure *failure);

/** Whether anything was said of the option NAME, which there is. */
bool settings_have(const struct settings *settings, const char *name);

/** Sets ROW, a flag, to no. -ENOMEM. */
int settings_undo(struct settings *settings, const struct setting *row, const struct setting_origin *origin);

/** Takes LINE of a configuration file, whatever section it is in; as settings_take. A key that is unknown is an error, too: its value is not shown. */
int settings_take_line(struct settings *settings, const struct config_file *file,
                       const struct config_line *line, struct failure *failure);

/** Told of each fault, one line. */
typedef void (*settings_report_fn)(void *arg, const char *fault);

/** Faults that are told on standard error: all of them to who checks, the first to who only wants to start. */
struct settings_faults {
        const char *program; /* that speaks */
        bool all;
        unsigned n; /* so far */
};

/** A settings_report_fn, whose ARG is a struct settings_faults. */
void settings_tell_fault(void *arg, const char *fault);

/** Takes what the environment says of any row. Returns how many faults there were; each was reported. */
unsigned settings_take_environment(struct settings *settings, settings_report_fn report, void *arg);

/** Puts what files said into the environment, for a program that is executed from here and must not read them again. -ENOMEM. */
int settings_export(const struct settings *settings);

/** Prints all settings in the format of a configuration file, each with where it is from. */
void settings_print(const struct settings *settings, FILE *out);

/** Prints the options that the command line may have as --help does, one line each. */
void setting_print_help(const struct setting_table *table, FILE *out);

/**
 * For completion: prints what the last of N WORDS of a command line of such options may become, a line each with what it is after a tab; ":files" or ":dirs" leaves it to the shell.
 */
void setting_complete(const struct setting_table *table, int n, char *const *words, FILE *out);

/** Reads yes, true, on, 1 or no, false, off, 0. -EINVAL for anything else. */
int setting_parse_flag(const char *value, bool *ret);
