#include "fs/mount_settings.h"

#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"

#define SETTLED_VARIABLE "FSYNCFS_SETTLED" /* files were read before this program was executed */
#define SECTION_OF_ALL   "mount"
#define SECTION_OF_SOME  "mount "
#define MATCH_KEY        "match"

/* What is being read, and who is told of faults. */
struct reading {
        struct settings *settings;
        const struct config_file *file;
        const struct mount_call *call;
        const char *target; /* absolute, if it is there */
        settings_report_fn report;
        void *arg;
        unsigned faults;
};

static void tell(struct reading *reading, int error, const struct failure *failure)
{
        if (error == 0)
                return;
        reading->faults++;
        reading->report(reading->arg, failure_text(failure, error));
}

/* ---- sections ---- */

static bool is_of_some(const char *section)
{
        return strncmp(section, SECTION_OF_SOME, strlen(SECTION_OF_SOME)) == 0;
}

static bool is_match(const struct config_line *line)
{
        return is_of_some(line->section) && strcmp(line->key, MATCH_KEY) == 0;
}

/* A pattern of a folder is of all below it, too: a SOURCE may name a folder of its spider. */
static bool matches(const char *pattern, const char *what)
{
        return what && fnmatch(pattern, what, FNM_LEADING_DIR) == 0;
}

static bool applies(const struct reading *reading, const char *section)
{
        const struct mount_call *call = reading->call;

        for (size_t i = 0; i < reading->file->n; i++) {
                const struct config_line *line = &reading->file->lines[i];

                if (!is_match(line) || strcmp(line->section, section) != 0)
                        continue;
                if (matches(line->value, call->source) || matches(line->value, reading->target))
                        return true;
        }
        return false;
}

static void take_section_of_all(struct reading *reading)
{
        for (size_t i = 0; i < reading->file->n; i++) {
                const struct config_line *line = &reading->file->lines[i];
                struct failure failure = { 0 };

                if (strcmp(line->section, SECTION_OF_ALL) == 0)
                        tell(reading, settings_take_line(reading->settings, reading->file, line, &failure),
                             &failure);
        }
}

/* A section's lines may lie in several places: of those that apply they are taken in their order. */
static void take_sections_of_some(struct reading *reading)
{
        const char *last = NULL;
        bool taken = false;

        for (size_t i = 0; i < reading->file->n; i++) {
                const struct config_line *line = &reading->file->lines[i];
                struct failure failure = { 0 };

                if (!is_of_some(line->section) || is_match(line))
                        continue;
                if (!last || strcmp(last, line->section) != 0)
                        taken = applies(reading, line->section);
                last = line->section;
                if (taken)
                        tell(reading, settings_take_line(reading->settings, reading->file, line, &failure),
                             &failure);
        }
}

/* ---- what is wrong with the file, whatever is mounted ---- */

static int check_section(const struct config_file *file, const struct config_line *line,
                         struct failure *failure)
{
        struct nearest nearest = { .typed = line->section };

        if (strcmp(line->section, SECTION_OF_ALL) == 0 || is_of_some(line->section))
                return 0;
        if (!line->section[0])
                return failure_set(failure, -EINVAL, "%s:%u: '%s' is in no section: put [mount] before it",
                                   file->path, line->number, line->key);
        nearest_offer(&nearest, SECTION_OF_ALL);
        return failure_set(failure, -EINVAL, "%s:%u: unknown section [%s]; %s", file->path, line->number,
                           line->section,
                           nearest.word ? "did you mean [mount]?" : "there are [mount] and [mount NAME]");
}

static void check_sections(struct reading *reading)
{
        const char *last = NULL;

        for (size_t i = 0; i < reading->file->n; i++) {
                const struct config_line *line = &reading->file->lines[i];
                struct failure failure = { 0 };

                if (!last || strcmp(last, line->section) != 0)
                        tell(reading, check_section(reading->file, line, &failure), &failure);
                last = line->section;
        }
}

static bool can_match(const struct config_file *file, const char *section)
{
        for (size_t i = 0; i < file->n; i++)
                if (is_match(&file->lines[i]) && strcmp(file->lines[i].section, section) == 0)
                        return true;
        return false;
}

/* Sections that are of other mounts, on options that nobody uses. */
static void check_others(struct reading *reading)
{
        struct mount_options scratch;
        struct settings settings;
        const char *last = NULL;

        if (mount_options_init(&scratch) < 0)
                return;
        if (settings_init(&settings, &mount_option_table, &scratch) < 0) {
                mount_options_release(&scratch);
                return;
        }
        for (size_t i = 0; i < reading->file->n; i++) {
                const struct config_line *line = &reading->file->lines[i];
                struct failure failure = { 0 };

                if (!is_of_some(line->section))
                        continue;
                if ((!last || strcmp(last, line->section) != 0) && !can_match(reading->file, line->section))
                        tell(reading,
                             failure_set(&failure, -EINVAL,
                                         "%s:%u: nothing is mounted by [%s]: it needs a key match = PATTERN",
                                         reading->file->path, line->number, line->section),
                             &failure);
                last = line->section;
                if (!is_match(line) && !applies(reading, line->section))
                        tell(reading, settings_take_line(&settings, reading->file, line, &failure), &failure);
        }
        settings_release(&settings);
        mount_options_release(&scratch);
}

/* ---- layers ---- */

/* The file that is asked for: after -o, in the environment. Owned; NULL: the default. */
static int find_path(const char *list, char **ret)
{
        static const char key[] = "config=";
        _cleanup_free_ char *copy = strdup(list);
        const char *path = secure_getenv("FSYNCFS_CONFIG");
        char *rest = copy, *word;

        *ret = NULL;
        if (!copy)
                return -ENOMEM;
        if (path && !path[0])
                path = NULL;
        while ((word = strsep(&rest, ",")))
                if (strncmp(word, key, strlen(key)) == 0 && word[strlen(key)])
                        path = word + strlen(key);
        if (path)
                *ret = strdup(path);
        return path && !*ret ? -ENOMEM : 0;
}

static int read_file(const char *list, struct config_file *ret, struct failure *failure)
{
        _cleanup_free_ char *path = NULL;
        int r = find_path(list, &path);

        if (r < 0)
                return r;
        r = config_file_read(path ? path : MOUNT_CONFIG_DEFAULT, ret, failure);
        return r == -ENOENT && !path ? 0 : r;
}

static void take_file(struct reading *reading)
{
        check_sections(reading);
        take_section_of_all(reading);
        take_sections_of_some(reading);
        if (reading->call->check)
                check_others(reading);
}

unsigned mount_settings_read(struct mount_options *options, const struct mount_call *call,
                             settings_report_fn report, void *arg, struct mount_settings *ret)
{
        _cleanup_free_ char *target = call->target ? realpath(call->target, NULL) : NULL;
        struct reading reading = {
                .settings = &ret->settings,
                .file = &ret->file,
                .call = call,
                .target = target ? target : call->target,
                .report = report,
                .arg = arg,
        };
        struct failure failure = { 0 };
        int r;

        *ret = (struct mount_settings){ 0 };
        r = settings_init(&ret->settings, &mount_option_table, options);
        if (r == 0 && !secure_getenv(SETTLED_VARIABLE))
                r = read_file(call->list, &ret->file, &failure);
        tell(&reading, r, &failure);
        if (!ret->settings.states)
                return reading.faults;
        take_file(&reading);
        reading.faults += settings_take_environment(&ret->settings, report, arg);
        failure = (struct failure){ 0 };
        tell(&reading, mount_options_take(&ret->settings, call->list, &failure), &failure);
        return reading.faults;
}

int mount_settings_export(const struct mount_settings *settings)
{
        int r = settings_export(&settings->settings);

        return r == 0 && setenv(SETTLED_VARIABLE, "1", 1) < 0 ? -ENOMEM : r;
}

void mount_settings_release(struct mount_settings *settings)
{
        settings_release(&settings->settings);
        config_file_release(&settings->file);
}
