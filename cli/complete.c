/*
 * `fsyncfs complete WORD...`: what the last WORD may become, for the shells' completions, which know nothing themselves. The words are those after `fsyncfs`, the last one, perhaps
 * empty, is being typed. A line for each word, with what it is after a tab; ":files" or ":dirs" leaves the rest to the shell.
 */
#include "cli/colour.h"
#include "cli/command.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "cache/store.h"
#include "fs/foreign_options.h"
#include "fs/mount_settings.h"
#include "fs/mountinfo.h"

static void offer(const char *typed, const char *word, const char *help)
{
        if (strncmp(word, typed, strlen(typed)) == 0)
                printf("%s\t%s\n", word, help ? help : "");
}

/* ---- names of commands ---- */

static void offer_commands(const char *typed, const struct command *group)
{
        size_t skip = group ? strlen(group->name) + 1 : 0;

        for (size_t i = 0; i < command_count; i++) {
                const struct command *command = &command_table[i];

                if (command->help && (group ? command_is_of(command, group) : !strchr(command->name, ' ')))
                        offer(typed, command->name + skip, command->help);
        }
}

static void offer_first(const char *typed)
{
        offer_commands(typed, NULL);
        offer(typed, "help", "what a command does");
        offer(typed, "--help", "all commands");
        offer(typed, "--version", "the version");
}

/* ---- after -o ---- */

/* The list is one word: what was typed of it before goes into each that is offered. */
struct option_word {
        const char *list;
        size_t before; /* bytes up to its last comma, and that */
};

/* Of a pattern what is before its `*`. */
static void offer_option(void *arg, const char *name)
{
        const struct option_word *word = arg;

        if (strncmp(name, word->list + word->before, strlen(word->list + word->before)) == 0)
                printf("%.*s%.*s\t\n", (int)word->before, word->list, (int)strcspn(name, "*"), name);
}

static void offer_choices(const struct option_word *word, const char *name, size_t name_len,
                          const char *choices, const char *typed)
{
        for (; *choices; choices += strspn(choices, " ")) {
                size_t len = strcspn(choices, " ");

                if (strncmp(choices, typed, strlen(typed)) == 0)
                        printf("%.*s%.*s=%.*s\t\n", (int)word->before, word->list, (int)name_len, name,
                               (int)len, choices);
                choices += len;
        }
}

static void offer_paths(const struct option_word *word, const char *name, size_t name_len, const char *typed)
{
        _cleanup_free_ char *pattern = NULL;
        glob_t found;

        if (asprintf(&pattern, "%s*", typed) < 0) {
                pattern = NULL;
                return;
        }
        if (glob(pattern, GLOB_MARK, NULL, &found) != 0)
                return;
        for (size_t i = 0; i < found.gl_pathc; i++)
                printf("%.*s%.*s=%s\t\n", (int)word->before, word->list, (int)name_len, name,
                       found.gl_pathv[i]);
        globfree(&found);
}

static void offer_mount_options(const char *list)
{
        const char *comma = strrchr(list, ',');
        struct option_word word = { .list = list, .before = comma ? (size_t)(comma - list) + 1 : 0 };
        const char *typed = list + word.before, *value = strchr(typed, '=');
        const struct setting *row =
                setting_find(&mount_option_table, typed, value ? (size_t)(value - typed) : strlen(typed));

        if (value && row && row->choices)
                offer_choices(&word, typed, (size_t)(value - typed), row->choices, value + 1);
        else if (value && row && row->kind == SETTING_PATH)
                offer_paths(&word, typed, (size_t)(value - typed), value + 1);
        if (value)
                return;
        for (size_t i = 0; i < mount_option_table.n; i++) {
                row = &mount_option_table.rows[i];
                if (!(row->not_in & SETTING_IN(SETTING_COMMAND)) &&
                    strncmp(row->name, typed, strlen(typed)) == 0)
                        printf("%.*s%s%s\t%s\n", (int)word.before, list, row->name, row->argument ? "=" : "",
                               row->help);
        }
        foreign_options_each(offer_option, &word);
}

/* ---- what commands are about ---- */

static int offer_mount(const struct mountinfo *info, void *arg)
{
        offer(arg, info->target, info->source);
        return 0;
}

static void ignore_fault(void *arg, const char *fault)
{
}

static int offer_pin(const struct content_id *id, uint64_t size, void *arg)
{
        char name[HASH_TEXT_MAX], help[32];

        snprintf(help, sizeof(help), "%llu bytes", (unsigned long long)size);
        offer(arg, content_id_format(id, name), help);
        return 0;
}

static void offer_pins(char *typed)
{
        const struct mount_call call = { .list = "" };
        struct mount_settings settings;
        struct mount_options options;
        struct failure failure = { 0 };
        struct store *store;

        if (mount_options_init(&options) < 0)
                return;
        (void)mount_settings_read(&options, &call, ignore_fault, NULL, &settings);
        (void)mount_options_finish(&options, &failure);
        /* To look at a store must not make one. */
        if (access(options.cache_dir, R_OK | W_OK) == 0 && store_open(options.cache_dir, &store) == 0) {
                (void)store_list_pins(store, offer_pin, typed);
                store_free(store);
        }
        mount_settings_release(&settings);
        mount_options_release(&options);
}

static void offer_value(const char *argument, const char *typed)
{
        if (strcmp(argument, "OPTIONS") == 0)
                offer_mount_options(typed);
        else if (strcmp(argument, "DIR") == 0)
                puts(":dirs");
        else if (strncmp(argument, "FILE", 4) == 0)
                puts(":files");
        else if (strcmp(argument, "WHEN") == 0)
                for (size_t i = 0; i < COLOUR_WHENS; i++)
                        offer(typed, colour_when_names[i], "");
}

static void offer_operands(const struct command *command, char *typed)
{
        const char *arguments = command->arguments;

        if (strstr(arguments, "SOURCE")) { /* which nobody can guess */
                if (strstr(arguments, " DIR"))
                        puts(":dirs");
                return;
        }
        if (strncmp(arguments, "DIR", 3) == 0 || strncmp(arguments, "[DIR]", 5) == 0)
                mountinfo_each_own(offer_mount, typed);
        if (strcmp(command->name, "cache unpin") == 0)
                offer_pins(typed);
        if (strstr(arguments, "PATH"))
                puts(":files");
}

static void offer_options(const struct command *command, const char *typed)
{
        struct command_option options[COMMAND_OPTIONS_MAX];
        size_t n = command_options(command, options);

        for (size_t i = 0; i < n; i++)
                offer(typed, options[i].name, command_option_help(&options[i]));
        offer(typed, "--help", "what it does");
}

/* The option that awaits its value in the word before the last. */
static const char *awaited(const struct command *command, const char *word)
{
        static struct command_option options[COMMAND_OPTIONS_MAX];
        size_t n = command_options(command, options);

        for (size_t i = 0; i < n; i++)
                if (strcmp(options[i].name, word) == 0)
                        return options[i].argument;
        return "";
}

static void complete_command(const struct command *command, int n, char **words)
{
        const char *argument = n > 2 ? awaited(command, words[n - 2]) : "";

        if (argument[0])
                offer_value(argument, words[n - 1]);
        else if (words[n - 1][0] == '-')
                offer_options(command, words[n - 1]);
        else if (command_is_group(command))
                offer_commands(words[n - 1], command);
        else
                offer_operands(command, words[n - 1]);
}

int command_complete(int argc, char **argv)
{
        char **words = argv + 1;
        int n = argc - 1;
        const struct command *command;

        if (n == 0)
                return command_usage("complete");
        if (n > 1 && strcmp(words[0], "help") == 0) {
                words++;
                n--;
        }
        command = n > 1 ? command_find(n - 1, words) : NULL;
        if (n == 1)
                offer_first(words[0]);
        else if (command)
                complete_command(command, n, words);
        return 0;
}
