#include "base/setting.h"

#include <ctype.h>
#include <string.h>

#include "base/buffer.h"
#include "base/nearest.h"

#define LIST_MAX   64
#define NAME_MAX_  64 /* of a variable in the environment */
#define HELP_WIDTH 26 /* of the options' own column */

int settings_init(struct settings *settings, const struct setting_table *table, void *target)
{
        struct setting_state *states = calloc(table->n, sizeof(*states));

        if (!states)
                return -ENOMEM;
        *settings = (struct settings){ .table = table, .target = target, .states = states };
        return 0;
}

static void forget(struct setting_state *state)
{
        for (size_t i = 0; i < state->n; i++)
                free(state->values[i].text);
        free(state->values);
        *state = (struct setting_state){ 0 };
}

void settings_release(struct settings *settings)
{
        for (size_t i = 0; settings->states && i < settings->table->n; i++)
                forget(&settings->states[i]);
        free(settings->states);
        *settings = (struct settings){ 0 };
}

const struct setting *setting_find(const struct setting_table *table, const char *name, size_t name_len)
{
        for (size_t i = 0; i < table->n; i++)
                if (strlen(table->rows[i].name) == name_len &&
                    memcmp(table->rows[i].name, name, name_len) == 0)
                        return &table->rows[i];
        return NULL;
}

const char *setting_suggest(const struct setting_table *table, enum setting_layer layer, const char *name,
                            char buf[128])
{
        struct nearest nearest = { .typed = name };

        for (size_t i = 0; i < table->n; i++)
                if (!(table->rows[i].not_in & SETTING_IN(layer)))
                        nearest_offer(&nearest, table->rows[i].name);
        buf[0] = '\0';
        if (nearest.word)
                snprintf(buf, 128, "; did you mean '%s%s'?", layer == SETTING_COMMAND ? table->prefix : "",
                         nearest.word);
        return buf;
}

int setting_parse_flag(const char *value, bool *ret)
{
        static const char *const words[] = { "no", "yes", "false", "true", "off", "on", "0", "1" };

        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                if (strcasecmp(value, words[i]) == 0) {
                        *ret = i % 2 == 1;
                        return 0;
                }
        return -EINVAL;
}

/* ---- faults ---- */

static const char *variable_name(const struct setting_table *table, const struct setting *row,
                                 char buf[NAME_MAX_])
{
        snprintf(buf, NAME_MAX_, "%s%s", table->environment, row->name);
        for (char *p = buf; *p; p++)
                *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
        return buf;
}

/* As it was written: "FILE:LINE: KEY = VALUE", "VARIABLE=VALUE", "option '--name VALUE'". */
static void quote(const struct settings *settings, const struct setting *row, const char *value,
                  const struct setting_origin *origin, struct failure *ret)
{
        const struct setting_table *table = settings->table;
        char variable[NAME_MAX_];

        if (origin->layer == SETTING_FILE)
                failure_set(ret, 0, "%s:%u: %s = %.200s", origin->file, origin->line, row->name, value);
        else if (origin->layer == SETTING_ENVIRONMENT)
                failure_set(ret, 0, "%s=%.200s", variable_name(table, row, variable), value);
        else
                failure_set(ret, 0, "%s '%s%s%s%.200s'", table->what, table->prefix, row->name,
                            value ? table->separator : "", value ? value : "");
}

static int fault(const struct settings *settings, const struct setting *row, const char *value,
                 const struct setting_origin *origin, const char *before, const char *what,
                 struct failure *failure)
{
        struct failure quoted = { 0 };

        quote(settings, row, value, origin, &quoted);
        return failure_set(failure, -EINVAL, "%.400s%s%s", quoted.text, before, what);
}

/* ---- taking ---- */

/* Room for one more text, so that nothing can fail once a row has taken its value. */
static int reserve(struct setting_state *state)
{
        struct setting_value *values = reallocarray(state->values, state->n + 1, sizeof(*values));

        if (!values)
                return -ENOMEM;
        state->values = values;
        return 0;
}

static int call(const struct settings *settings, const struct setting *row, const char *value)
{
        return row->set(row, (char *)settings->target + row->field, value);
}

/* A list goes on within a layer, and begins anew in the next. */
static int begin(struct settings *settings, const struct setting *row, struct setting_state *state,
                 enum setting_layer layer)
{
        if (row->kind == SETTING_LIST && state->n == LIST_MAX)
                return -E2BIG;
        if (row->kind != SETTING_LIST || state->n == 0 || state->values[0].origin.layer == layer)
                return 0;
        forget(state);
        return call(settings, row, NULL);
}

static int set(struct settings *settings, const struct setting *row, const char *value,
               const struct setting_origin *origin)
{
        struct setting_state *state = &settings->states[row - settings->table->rows];
        char *text = strdup(value);
        int r = text ? begin(settings, row, state, origin->layer) : -ENOMEM;

        if (r == 0)
                r = reserve(state);
        if (r == 0 && row->set)
                r = call(settings, row, text);
        if (r < 0) {
                free(text);
                return r;
        }
        if (row->kind != SETTING_LIST && state->n > 0)
                free(state->values[--state->n].text);
        state->values[state->n++] = (struct setting_value){ .text = text, .origin = *origin };
        return 0;
}

bool settings_have(const struct settings *settings, const char *name)
{
        const struct setting *row = setting_find(settings->table, name, strlen(name));

        return settings->states[row - settings->table->rows].n > 0;
}

int settings_undo(struct settings *settings, const struct setting *row, const struct setting_origin *origin)
{
        return set(settings, row, "no", origin);
}

int settings_take(struct settings *settings, const struct setting *row, const char *value,
                  const struct setting_origin *origin, struct failure *failure)
{
        bool flag, typed = origin->layer == SETTING_COMMAND;
        const char *given = value;
        int r;

        if (typed && row->kind == SETTING_FLAG && value)
                return fault(settings, row, value, origin, " takes no value", "", failure);
        if (typed && row->kind != SETTING_FLAG && !value)
                return fault(settings, row, value, origin, " needs a value: ", row->expects, failure);
        if (typed && row->kind == SETTING_FLAG)
                value = "yes";
        else if (row->kind == SETTING_FLAG && setting_parse_flag(value, &flag) < 0)
                return fault(settings, row, value, origin, ": expected ", "yes or no", failure);
        else if (row->kind == SETTING_FLAG)
                value = flag ? "yes" : "no";
        if (origin->layer == SETTING_FILE && row->kind == SETTING_PATH && value[0] != '/')
                return fault(settings, row, value, origin, ": expected ", "a path that begins with '/'",
                             failure);
        r = set(settings, row, value, origin);
        if (r == -EINVAL)
                return fault(settings, row, given, origin, ": expected ", row->expects, failure);
        if (r == -E2BIG)
                return fault(settings, row, given, origin, ": ", "that is one too many", failure);
        return r;
}

int settings_take_line(struct settings *settings, const struct config_file *file,
                       const struct config_line *line, struct failure *failure)
{
        const struct setting *row = setting_find(settings->table, line->key, strlen(line->key));
        const struct setting_origin origin = {
                .layer = SETTING_FILE,
                .file = file->path,
                .line = line->number,
        };
        char hint[128];

        if (!row)
                return failure_set(failure, -EINVAL, "%s:%u: unknown key '%s'%s", file->path, line->number,
                                   line->key,
                                   setting_suggest(settings->table, SETTING_FILE, line->key, hint));
        if (row->not_in & SETTING_IN(SETTING_FILE))
                return failure_set(failure, -EINVAL, "%s:%u: '%s' is for the command line only", file->path,
                                   line->number, line->key);
        return settings_take(settings, row, line->value, &origin, failure);
}

static int take_variable(struct settings *settings, const struct setting *row, const char *value,
                         struct failure *failure)
{
        const struct setting_origin origin = { .layer = SETTING_ENVIRONMENT };
        _cleanup_free_ char *copy = strdup(value);
        char *rest = copy, *word;
        int r = copy ? 0 : -ENOMEM;

        if (row->kind != SETTING_LIST)
                return settings_take(settings, row, value, &origin, failure);
        while (r == 0 && (word = strsep(&rest, ",")))
                if (word[0])
                        r = settings_take(settings, row, word, &origin, failure);
        return r;
}

void settings_tell_fault(void *arg, const char *fault)
{
        struct settings_faults *faults = arg;

        if (faults->all || faults->n == 0)
                fprintf(stderr, "%s: %s\n", faults->program, fault);
        faults->n++;
}

unsigned settings_take_environment(struct settings *settings, settings_report_fn report, void *arg)
{
        const struct setting_table *table = settings->table;
        char name[NAME_MAX_];
        unsigned faults = 0;

        for (size_t i = 0; i < table->n; i++) {
                const struct setting *row = &table->rows[i];
                const char *value = secure_getenv(variable_name(table, row, name));
                struct failure failure = { 0 };
                int r;

                if (!value || !value[0] || (row->not_in & SETTING_IN(SETTING_ENVIRONMENT)))
                        continue;
                r = take_variable(settings, row, value, &failure);
                if (r < 0)
                        report(arg, failure_text(&failure, r));
                faults += r < 0;
        }
        return faults;
}

int settings_export(const struct settings *settings)
{
        const struct setting_table *table = settings->table;
        char name[NAME_MAX_];

        for (size_t i = 0; i < table->n; i++) {
                const struct setting_state *state = &settings->states[i];
                _cleanup_buffer_ struct buffer text = { 0 };

                if (state->n == 0 || state->values[0].origin.layer != SETTING_FILE)
                        continue;
                for (size_t j = 0; j < state->n; j++)
                        if (buffer_printf(&text, "%s%s", j > 0 ? "," : "", state->values[j].text) < 0)
                                return -ENOMEM;
                if (setenv(variable_name(table, &table->rows[i], name), text.data, 1) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* ---- telling ---- */

static void print_origin(const struct settings *settings, const struct setting *row,
                         const struct setting_origin *origin, FILE *out)
{
        char name[NAME_MAX_];

        if (origin->layer == SETTING_FILE)
                fprintf(out, "%s:%u", origin->file, origin->line);
        else if (origin->layer == SETTING_ENVIRONMENT)
                fputs(variable_name(settings->table, row, name), out);
        else
                fputs("command line", out);
        putc('\n', out);
}

void settings_print(const struct settings *settings, FILE *out)
{
        for (size_t i = 0; i < settings->table->n; i++) {
                const struct setting *row = &settings->table->rows[i];
                const struct setting_state *state = &settings->states[i];

                if ((row->not_in & SETTING_COMMAND_ONLY) == SETTING_COMMAND_ONLY)
                        continue;
                for (size_t j = 0; j < state->n; j++) {
                        fprintf(out, "%s%s = %s ; ", row->not_in & SETTING_IN(SETTING_FILE) ? "# " : "",
                                row->name, state->values[j].text);
                        print_origin(settings, row, &state->values[j].origin, out);
                }
                if (state->n == 0)
                        fprintf(out, "# %s = %s ; default\n", row->name,
                                row->fallback               ? row->fallback
                                : row->kind == SETTING_FLAG ? "no"
                                                            : "");
        }
}

void setting_print_help(const struct setting_table *table, FILE *out)
{
        for (size_t i = 0; i < table->n; i++) {
                const struct setting *row = &table->rows[i];
                char left[64];

                if (row->not_in & SETTING_IN(SETTING_COMMAND))
                        continue;
                snprintf(left, sizeof(left), "%s%s%s%s", table->prefix, row->name,
                         row->argument ? table->separator : "", row->argument ? row->argument : "");
                fprintf(out, "  %-*s %s\n", HELP_WIDTH - 3, left, row->help);
        }
}

static void complete_value(const struct setting *row, const char *typed, FILE *out)
{
        const char *choices = row->choices ? row->choices : "";
        size_t len;

        for (; *choices; choices += len + strspn(choices + len, " ")) {
                len = strcspn(choices, " ");
                if (strncmp(choices, typed, strlen(typed)) == 0)
                        fprintf(out, "%.*s\t\n", (int)len, choices);
        }
        if (row->kind == SETTING_PATH)
                fputs(strcmp(row->argument, "DIR") == 0 ? ":dirs\n" : ":files\n", out);
}

void setting_complete(const struct setting_table *table, int n, char *const *words, FILE *out)
{
        size_t prefix = strlen(table->prefix);
        const char *typed = n > 0 ? words[n - 1] : "", *last = n > 1 ? words[n - 2] : "";
        const struct setting *row = NULL;

        if (strncmp(last, table->prefix, prefix) == 0)
                row = setting_find(table, last + prefix, strlen(last + prefix));
        if (row && row->argument) {
                complete_value(row, typed, out);
                return;
        }
        for (size_t i = 0; i < table->n; i++) {
                char name[NAME_MAX_];

                snprintf(name, sizeof(name), "%s%s", table->prefix, table->rows[i].name);
                if (strncmp(name, typed, strlen(typed)) == 0)
                        fprintf(out, "%s\t%s\n", name, table->rows[i].help);
        }
}
