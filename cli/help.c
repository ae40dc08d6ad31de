#include "cli/command.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "base/util.h"
#include "fs/options.h"

#define NAME_WIDTH   10
#define OPTION_WIDTH 19
#define LINE_WIDTH   80

/* The same everywhere, but for those with the name of their value. */
static const struct {
        const char *name, *help;
} option_helps[] = {
        { "-o FILE.tar.gz", "the archive (fsyncfs-bugreport-TIME.tar.gz)" },
        { "-o", "options of a mount, separated by commas" },
        { "-l", "mode, size and time of each" },
        { "-R", "everything below" },
        { "--json", "print JSON" },
        { "--cache", "the cache folder (the default of mounts)" },
        { "--config", "read FILE, not " MOUNT_CONFIG_DEFAULT },
        { "--color", "auto, always or never (auto)" },
        { "--check-config", "mount nothing; say what is wrong and what is in force" },
        { "--stat-pass", "have the master look at all its files" },
        { "--repair", "remove damaged catalogs that no mount uses; mend `format`" },
        { "--to", "until SIZE is left: 500M, 20G (0)" },
        { "--domain", "the part of it that this trust domain has" },
        { "--all", "its own part, then each domain's" },
        { "--batch", "N times, as lines, then end" },
        { "--interval", "how often (1)" },
        { "-f", "stay in the foreground, log to stderr" },
};

const char *command_option_help(const struct command_option *option)
{
        char whole[sizeof(*option) + 1];

        snprintf(whole, sizeof(whole), "%s %s", option->name, option->argument);
        for (size_t i = 0; i < ARRAY_SIZE(option_helps); i++)
                if (strcmp(option_helps[i].name, option->name) == 0 ||
                    strcmp(option_helps[i].name, whole) == 0)
                        return option_helps[i].help;
        return NULL;
}

/* ---- a command's arguments ---- */

static size_t add_letters(const char *word, size_t len, struct command_option *ret, size_t room)
{
        size_t n = 0;

        for (size_t i = 1; i < len && n < room; i++)
                snprintf(ret[n++].name, sizeof(ret->name), "-%c", word[i]);
        return n;
}

/* Brackets end a word; a word after an option, in the same brackets, is its value. */
size_t command_options(const struct command *command, struct command_option ret[COMMAND_OPTIONS_MAX])
{
        static const char ends[] = " []|";
        const char *at = command->arguments;
        size_t n = 0, len;

        memset(ret, 0, COMMAND_OPTIONS_MAX * sizeof(*ret));
        for (; *at && n < COMMAND_OPTIONS_MAX; at += len) {
                at += strspn(at, ends);
                len = strcspn(at, ends);
                if (len > 2 && at[0] == '-' && at[1] != '-') {
                        n += add_letters(at, len, &ret[n], COMMAND_OPTIONS_MAX - n);
                } else if (len > 1 && at[0] == '-') {
                        snprintf(ret[n].name, sizeof(ret->name), "%.*s", (int)len, at);
                        if (at[len] == ' ' && !strchr("[-", at[len + 1]))
                                snprintf(ret[n].argument, sizeof(ret->argument), "%.*s",
                                         (int)strcspn(at + len + 1, ends), at + len + 1);
                        n++;
                }
        }
        return n;
}

/* ---- finding ---- */

bool command_is_of(const struct command *command, const struct command *group)
{
        size_t len = strlen(group->name);

        return strncmp(command->name, group->name, len) == 0 && command->name[len] == ' ';
}

bool command_is_group(const struct command *command)
{
        for (size_t i = 0; i < command_count; i++)
                if (command_is_of(&command_table[i], command))
                        return true;
        return false;
}

static const struct command *find(const char *name, const struct command *group)
{
        size_t skip = group ? strlen(group->name) + 1 : 0;

        for (size_t i = 0; i < command_count; i++)
                if ((!group || command_is_of(&command_table[i], group)) &&
                    strcmp(command_table[i].name + skip, name) == 0)
                        return &command_table[i];
        return NULL;
}

/* Options may stand before the word that names one of a group. */
const struct command *command_find(int n, char *const *words)
{
        const struct command *command = n > 0 ? find(words[0], NULL) : NULL;

        if (!command || !command_is_group(command))
                return command;
        for (int i = 1; i < n; i++) {
                const struct command *one = find(words[i], command);
                if (one)
                        return one;
        }
        return command;
}

int command_say_unknown(int n, char *const *words)
{
        const struct command *group = find(words[0], NULL);
        struct nearest nearest = { .typed = words[0] };

        if (group)
                for (int i = 1; i < n; i++)
                        if (words[i][0] != '-') {
                                nearest.typed = words[i];
                                break;
                        }
        for (size_t i = 0; i < command_count; i++) {
                const struct command *command = &command_table[i];
                if (group ? command_is_of(command, group) : command->help && !strchr(command->name, ' '))
                        nearest_offer(&nearest, command->name + (group ? strlen(group->name) + 1 : 0));
        }
        if (group && nearest.typed == words[0])
                return command_usage(group->name);
        if (nearest.word)
                fprintf(stderr, "fsyncfs: unknown command '%s%s%s'; did you mean '%s'?\n",
                        group ? group->name : "", group ? " " : "", nearest.typed, nearest.word);
        else
                fprintf(stderr, "fsyncfs: unknown command '%s%s%s'; see fsyncfs --help\n",
                        group ? group->name : "", group ? " " : "", nearest.typed);
        return EXIT_USAGE;
}

/* ---- help ---- */

static void print_overview(FILE *out)
{
        fputs("usage: fsyncfs COMMAND [ARGUMENTS]\n\n", out);
        for (size_t i = 0; i < command_count; i++)
                if (command_table[i].help && !strchr(command_table[i].name, ' '))
                        fprintf(out, "  %-*s %s\n", NAME_WIDTH, command_table[i].name, command_table[i].help);
        fputs("\nSOURCE is HOST[:PORT][,HOST...]:/SPIDER[/PATH] or unix:SOCKET:/SPIDER[/PATH].\n"
              "umount DIR ends a mount. --version prints the version.\n"
              "More: fsyncfs COMMAND --help, man fsyncfs\n",
              out);
}

static void print_options(const struct command *command)
{
        struct command_option options[COMMAND_OPTIONS_MAX];
        size_t n = command_options(command, options);

        for (size_t i = 0; i < n; i++) {
                const char *help = command_option_help(&options[i]);
                char left[80];

                snprintf(left, sizeof(left), "%s%s%s", options[i].name, options[i].argument[0] ? " " : "",
                         options[i].argument);
                printf("  %-*s %s\n", OPTION_WIDTH, left, help ? help : "");
        }
}

static void print_group(const struct command *group)
{
        for (size_t i = 0; i < command_count; i++)
                if (command_is_of(&command_table[i], group))
                        printf("  %-*s %s\n", NAME_WIDTH, command_table[i].name + strlen(group->name) + 1,
                               command_table[i].help);
}

/* What does not fit goes on beneath the name. */
static void print_usage(const struct command *command, FILE *out)
{
        int indent = fprintf(out, "usage: fsyncfs %s", command->name), column = indent;
        const char *at = command->arguments;

        while (*at) {
                const char *end = strstr(at, " [");
                int len = (int)(end ? (size_t)(end - at) : strlen(at));

                if (column + 1 + len >= LINE_WIDTH)
                        column = fprintf(out, "\n%*s", indent, "") - 1;
                column += fprintf(out, " %.*s", len, at);
                at += len + (at[len] == ' ');
        }
        putc('\n', out);
}

static void print_help(const struct command *command)
{
        print_usage(command, stdout);
        puts(command->help ? command->help : "");
        print_options(command);
        if (command_is_group(command))
                print_group(command);
        if (command->run == command_mount) {
                puts("OPTIONS, beside those of mount(8):");
                setting_print_help(&mount_option_table, stdout);
        }
}

int command_help(int n, char *const *words)
{
        const struct command *command = command_find(n, words);

        if (!words) { /* called without a word */
                print_overview(stderr);
                return EXIT_USAGE;
        }
        if (n == 0) {
                print_overview(stdout);
                return 0;
        }
        if (!command || (n > 1 && command_is_group(command)))
                return command_say_unknown(n, words);
        print_help(command);
        return 0;
}

/* ---- what was called wrongly ---- */

int command_usage(const char *name)
{
        const struct command *command = find(name, NULL);

        if (command)
                print_usage(command, stderr);
        return EXIT_USAGE;
}

/* getopt takes what begins an option's name for it, too. */
static const struct command_option *match(const struct command_option *options, size_t n, const char *word,
                                          size_t len)
{
        for (size_t i = 0; i < n; i++)
                if (strncmp(options[i].name, word, len) == 0)
                        return &options[i];
        return NULL;
}

static int say_unknown_option(const struct command *command, const struct command_option *options, size_t n,
                              const char *word, size_t len)
{
        _cleanup_free_ char *typed = strndup(word, len); /* what follows may be anything */
        struct nearest nearest = { .typed = typed ? typed : "" };

        for (size_t i = 0; i < n; i++)
                nearest_offer(&nearest, options[i].name);
        if (nearest.word)
                fprintf(stderr, "fsyncfs %s: unknown option '%s'; did you mean '%s'?\n", command->name,
                        nearest.typed, nearest.word);
        else
                fprintf(stderr, "fsyncfs %s: unknown option '%s'; see fsyncfs %s --help\n", command->name,
                        nearest.typed, command->name);
        return command->exit_usage ? command->exit_usage : EXIT_USAGE;
}

bool command_answer(const struct command *command, int n, char *const *words, int *ret_code)
{
        struct command_option options[COMMAND_OPTIONS_MAX];
        size_t count = command_options(command, options);

        for (int i = 1; i < n && strcmp(words[i], "--") != 0; i++) {
                size_t len = strcspn(words[i], "=");
                const struct command_option *option = match(options, count, words[i], len);

                if (words[i][0] != '-' || len < 2)
                        continue;
                if (strcmp(words[i], "--help") == 0) {
                        print_help(command);
                        *ret_code = 0;
                        return true;
                }
                if (words[i][1] == '-' && !option) {
                        *ret_code = say_unknown_option(command, options, count, words[i], len);
                        return true;
                }
                if (option && option->argument[0] && !words[i][len])
                        i++; /* its value, whatever it looks like */
        }
        if (!command_is_group(command))
                return false;
        *ret_code = command_say_unknown(n, words);
        return true;
}
