/* A configuration file of any bytes: read or refused with a line that names it; what is read is what a line of it says, and no option takes what it should not. */
#include <assert.h>
#include <string.h>

#include "fs/mount_settings.h"
#include "tests/fuzz/driver.h"

static size_t count_lines(const uint8_t *data, size_t len)
{
        size_t n = 1;

        for (size_t i = 0; i < len; i++)
                n += data[i] == '\n';
        return n;
}

static void take(struct settings *settings, const struct config_file *file, const struct config_line *line)
{
        struct failure failure = { 0 };
        int r = settings_take_line(settings, file, line, &failure);
        const struct setting *row = setting_find(settings->table, line->key, strlen(line->key));

        assert(r == 0 || failure.text[0]);
        if (!row)
                assert(r == -EINVAL);
        if (r == 0) {
                const struct setting_state *state = &settings->states[row - settings->table->rows];

                assert(state->n > 0 && state->values[state->n - 1].origin.line == line->number);
        }
}

void fuzz_one(const uint8_t *data, size_t len)
{
        struct failure failure = { 0 };
        struct mount_options options;
        struct settings settings;
        struct config_file file = { 0 };
        int r = config_file_parse("f", (const char *)data, len, &file, &failure);
        unsigned last = 0;

        if (r < 0) {
                assert(r == -EINVAL && strncmp(failure.text, "f:", 2) == 0 && !file.lines);
                return;
        }
        assert(mount_options_init(&options) == 0);
        assert(settings_init(&settings, &mount_option_table, &options) == 0);
        for (size_t i = 0; i < file.n; i++) {
                const struct config_line *line = &file.lines[i];

                assert(line->number > last && line->number <= count_lines(data, len));
                assert(line->key[0] && !strpbrk(line->value, "\n\r"));
                last = line->number;
                /* Users and groups are looked up in files, which takes its time. */
                if (strcmp(line->key, "uid") != 0 && strcmp(line->key, "gid") != 0)
                        take(&settings, &file, line);
        }
        settings_release(&settings);
        mount_options_release(&options);
        config_file_release(&file);
}
