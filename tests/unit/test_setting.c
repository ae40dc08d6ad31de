#include "base/setting.h"

#include <string.h>

#include "base/nearest.h"
#include "base/setting_field.h"
#include "fs/mount_settings.h"
#include "tests/unit/unit.h"

/* ---- the nearest word ---- */

static const char *nearest(const char *typed)
{
        static const char *const words[] = { "timeout", "token_file",     "tls",  "ca",
                                             "cache",   "cache_anywhere", "quota" };
        struct nearest n = { .typed = typed };

        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                nearest_offer(&n, words[i]);
        return n.word ? n.word : "";
}

static void test_nearest(void **state)
{
        static const char *const rows[][2] = {
                { "timeot", "timeout" },
                { "tmieout", "timeout" },
                { "token", "token_file" },
                { "tokenfile", "token_file" },
                { "tsl", "tls" },
                { "cahce", "cache" },
                { "cache_", "cache" },
                { "quotas", "quota" },
                { "", "" },
                { "xyz", "" },
                { "to", "" },
                { "timeouttimeout", "" },
                { "quota", "quota" },
        };
        char longest[200];

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (strcmp(nearest(rows[i][0]), rows[i][1]) != 0)
                        fail_msg("'%s': '%s', not '%s'", rows[i][0], nearest(rows[i][0]), rows[i][1]);
        memset(longest, 't', sizeof(longest) - 1);
        longest[sizeof(longest) - 1] = '\0';
        assert_string_equal(nearest(longest), "");
}

/* ---- files ---- */

static int parse(const char *text, struct config_file *ret, struct failure *failure)
{
        *failure = (struct failure){ 0 };
        return config_file_parse("/f", text, strlen(text), ret, failure);
}

static void test_file(void **state)
{
        struct config_file file;
        struct failure failure;

        assert_int_equal(
                parse("\xef\xbb\xbf# one\n\na=1\n[s x]\n  b = 2 3 ; four\r\n\tc:=\nb=5", &file, &failure), 0);
        assert_int_equal(file.n, 4);
        assert_string_equal(file.lines[0].section, "");
        assert_string_equal(file.lines[0].key, "a");
        assert_int_equal(file.lines[0].number, 3);
        assert_string_equal(file.lines[1].section, "s x");
        assert_string_equal(file.lines[1].key, "b");
        assert_string_equal(file.lines[1].value, "2 3");
        assert_int_equal(file.lines[1].number, 5);
        assert_string_equal(file.lines[3].key, "b");
        assert_string_equal(file.lines[3].value, "5");
        assert_int_equal(file.lines[3].number, 7);
        config_file_release(&file);
        assert_int_equal(parse("", &file, &failure), 0);
        assert_int_equal(file.n, 0);
        config_file_release(&file);
}

static void test_bad_files(void **state)
{
        static const char *const rows[][2] = {
                { "a=1\nnonsense\nb=2\n", "/f:2: " },
                { "[open\n", "/f:1: " },
                { "a=1\n\x1b[0m=2\n", "/f:2: a control character" },
                { "=5\n", "/f:1: there is no key" },
                { "\n[0123456789012345678901234567890123456789012345678901234567890]\na=1",
                  "/f:3: the section's name" },
        };
        char line[400];
        struct config_file file;
        struct failure failure;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                assert_int_equal(parse(rows[i][0], &file, &failure), -EINVAL);
                if (strncmp(failure.text, rows[i][1], strlen(rows[i][1])) != 0)
                        fail_msg("'%s': '%s'", rows[i][1], failure.text);
        }
        assert_int_equal(config_file_parse("/f", "a=1\nb=\0x\n", 10, &file, &failure), -EINVAL);
        memset(line, 'x', sizeof(line));
        line[1] = '=';
        /* The longest that fits, and one more. */
        assert_int_equal(config_file_parse("/f", line, 197, &file, &failure), 0);
        assert_int_equal(file.n, 1);
        assert_int_equal(strlen(file.lines[0].value), 195);
        config_file_release(&file);
        assert_int_equal(config_file_parse("/f", line, 198, &file, &failure), -EINVAL);
}

/* ---- precedence ---- */

struct reported {
        unsigned n;
        struct failure last;
};

static void report(void *arg, const char *fault)
{
        struct reported *reported = arg;

        reported->n++;
        failure_set(&reported->last, 0, "%s", fault);
}

/* A file, an environment of one variable, and a list: what comes of it. */
struct given {
        const char *file, *variable, *value, *list, *source, *target;
};

static char path[] = "/tmp/test_setting.XXXXXX";

static unsigned read_settings(const struct given *given, struct mount_options *options,
                              struct mount_settings *settings, struct reported *reported)
{
        const struct mount_call call = {
                .source = given->source, .target = given->target, .list = given->list ?: "", .check = false
        };
        FILE *f = fopen(path, "w");
        unsigned n;

        assert_non_null(f);
        fputs(given->file ?: "", f);
        fclose(f);
        setenv("FSYNCFS_CONFIG", path, 1);
        if (given->variable)
                setenv(given->variable, given->value, 1);
        assert_int_equal(mount_options_init(options), 0);
        *reported = (struct reported){ 0 };
        n = mount_settings_read(options, &call, report, reported, settings);
        assert_int_equal(n, reported->n);
        if (given->variable)
                unsetenv(given->variable);
        return n;
}

static enum setting_layer said_in(const struct setting_state *state)
{
        return state->n > 0 ? state->values[0].origin.layer : SETTING_DEFAULT;
}

static void test_precedence(void **state)
{
        static const struct {
                struct given given;
                unsigned timeout;
                enum setting_layer layer;
        } rows[] = {
                { { 0 }, 30, SETTING_DEFAULT },
                { { .file = "[mount]\ntimeout=5\n" }, 5, SETTING_FILE },
                { { .file = "[mount]\ntimeout=5\ntimeout=6\n" }, 6, SETTING_FILE },
                { { .file = "[mount]\ntimeout=5\n[mount s]\nmatch=m:/s*\ntimeout=7\n", .source = "m:/shop" },
                  7,
                  SETTING_FILE },
                { { .file = "[mount s]\nmatch=m:/s*\ntimeout=7\n[mount]\ntimeout=5\n", .source = "m:/shop" },
                  7,
                  SETTING_FILE },
                { { .file = "[mount]\ntimeout=5\n[mount s]\nmatch=m:/s*\ntimeout=7\n", .source = "m:/news" },
                  5,
                  SETTING_FILE },
                { { .file = "[mount s]\nmatch=m:/s\ntimeout=7\n", .source = "m:/s/sub" }, 7, SETTING_FILE },
                { { .file = "[mount s]\nmatch=m:/s\ntimeout=7\n", .source = "m:/shop" },
                  30,
                  SETTING_DEFAULT },
                { { .file = "[mount s]\nmatch=/m*t\ntimeout=7\n", .source = "m:/s", .target = "/mnt/a/b" },
                  7,
                  SETTING_FILE },
                { { .file = "[mount s]\nmatch=x\nmatch=/\ntimeout=7\n", .source = "m:/news", .target = "/" },
                  7,
                  SETTING_FILE },
                { { .file = "[mount a]\nmatch=*\ntimeout=7\n[mount b]\nmatch=*\ntimeout=8\n",
                    .source = "m:/news" },
                  8,
                  SETTING_FILE },
                { { .variable = "FSYNCFS_TIMEOUT", .value = "9" }, 9, SETTING_ENVIRONMENT },
                { { .file = "[mount]\ntimeout=5\n", .variable = "FSYNCFS_TIMEOUT", .value = "9" },
                  9,
                  SETTING_ENVIRONMENT },
                { { .file = "[mount]\ntimeout=5\n", .variable = "FSYNCFS_TIMEOUT", .value = "" },
                  5,
                  SETTING_FILE },
                { { .file = "[mount]\ntimeout=5\n",
                    .variable = "FSYNCFS_TIMEOUT",
                    .value = "9",
                    .list = "timeout=10" },
                  10,
                  SETTING_COMMAND },
        };
        const struct setting *row = setting_find(&mount_option_table, "timeout", 7);

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct mount_options options;
                struct mount_settings settings;
                struct reported reported;

                if (read_settings(&rows[i].given, &options, &settings, &reported) != 0)
                        fail_msg("row %zu: %s", i, reported.last.text);
                if (options.timeout_sec != rows[i].timeout)
                        fail_msg("row %zu: %u", i, options.timeout_sec);
                assert_int_equal(said_in(&settings.settings.states[row - mount_option_table.rows]),
                                 rows[i].layer);
                mount_settings_release(&settings);
                mount_options_release(&options);
        }
}

static void test_flags_and_lists(void **state)
{
        static const struct given given = {
                .file = "[mount]\ntls=YES\nxattr=1\noptions = noexec,nosymfollow\noptions=context=x\n",
                .variable = "FSYNCFS_OFFLINE",
                .value = "on",
                .list = "noxattr,exec",
        };
        struct mount_options options;
        struct mount_settings settings;
        struct reported reported;

        assert_int_equal(read_settings(&given, &options, &settings, &reported), 0);
        assert_true(options.tls && options.offline && !options.xattr);
        assert_non_null(strstr(options.kernel.data, ",noexec,nosymfollow,context=x,exec"));
        mount_settings_release(&settings);
        mount_options_release(&options);
}

static void test_faults(void **state)
{
        static const struct {
                struct given given;
                const char *says;
        } rows[] = {
                { { .file = "[mount]\ntmeout=secret\n" },
                  ":2: unknown key 'tmeout'; did you mean 'timeout'?" },
                { { .file = "[mount]\n\ntimeout=soon\n" }, ":3: timeout = soon: expected seconds" },
                { { .file = "[mount]\ncache=here\n" },
                  ":2: cache = here: expected a path that begins with '/'" },
                { { .file = "[mount]\ntls=maybe\n" }, ":2: tls = maybe: expected yes or no" },
                { { .file = "[mount]\nconfig=/x\n" }, ":2: 'config' is for the command line only" },
                { { .file = "[mount]\noptions=nosuch\n" }, ":2: options = nosuch: expected options" },
                { { .file = "timeout=5\n" }, ":1: 'timeout' is in no section: put [mount] before it" },
                { { .file = "[muont]\ntimeout=5\n" }, ":2: unknown section [muont]; did you mean [mount]?" },
                { { .variable = "FSYNCFS_TIMEOUT", .value = "soon" },
                  "FSYNCFS_TIMEOUT=soon: expected seconds" },
                { { .list = "timeout=soon" }, "mount option 'timeout=soon': expected seconds" },
                { { .list = "token=secret" }, "unknown mount option 'token'; did you mean 'token_file'?" },
                { { .list = "options=noexec" }, "unknown mount option 'options'" },
                { { .list = "config=/nonexistent/x" }, "cannot read the configuration '/nonexistent/x'" },
                { { .list = "config=/" }, "'/': it is a folder" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct mount_options options;
                struct mount_settings settings;
                struct reported reported;

                if (read_settings(&rows[i].given, &options, &settings, &reported) != 1 ||
                    !strstr(reported.last.text, rows[i].says) || strstr(reported.last.text, "secret"))
                        fail_msg("'%s': %u, '%s'", rows[i].says, reported.n, reported.last.text);
                mount_settings_release(&settings);
                mount_options_release(&options);
        }
}

/* What a program that takes over is to find. */
static void test_export(void **state)
{
        static const struct given given = {
                .file = "[mount]\ntimeout=5\nxattr=yes\noptions=noexec\noptions=nosymfollow\n",
                .list = "lazy=4"
        };
        struct mount_options options;
        struct mount_settings settings;
        struct reported reported;

        assert_int_equal(read_settings(&given, &options, &settings, &reported), 0);
        assert_int_equal(mount_settings_export(&settings), 0);
        assert_string_equal(getenv("FSYNCFS_TIMEOUT"), "5");
        assert_string_equal(getenv("FSYNCFS_OPTIONS"), "noexec,nosymfollow");
        assert_null(getenv("FSYNCFS_LAZY"));
        mount_settings_release(&settings);
        mount_options_release(&options);
        /* The file says something else by then, and nonsense. */
        assert_int_equal(
                read_settings(&(struct given){ .file = "[mount]\ntimeout=6\nnonsense\n", .list = "lazy=4" },
                              &options, &settings, &reported),
                0);
        assert_int_equal(options.timeout_sec, 5);
        assert_true(options.xattr);
        assert_int_equal(options.lazy_sec, 4);
        mount_settings_release(&settings);
        mount_options_release(&options);
        unsetenv("FSYNCFS_SETTLED");
        unsetenv("FSYNCFS_TIMEOUT");
        unsetenv("FSYNCFS_XATTR");
        unsetenv("FSYNCFS_OPTIONS");
}

/* Each option can be said in each way that it may be, under the names that --help and the man pages give it. */
static void test_table(void **state)
{
        for (size_t i = 0; i < mount_option_table.n; i++) {
                const struct setting *row = &mount_option_table.rows[i];

                assert_true(row->help && strlen(row->help) <= 53);
                assert_true(!row->argument == (row->kind == SETTING_FLAG));
                assert_true(!row->argument == !row->expects);
                assert_true(row->set || (row->not_in & SETTING_IN(SETTING_FILE)));
                assert_ptr_equal(setting_find(&mount_option_table, row->name, strlen(row->name)), row);
        }
}

/* ---- fields ---- */

struct target {
        char before;
        bool flag;
        unsigned number;
        enum { ONE, TWO, THREE } choice;
        const char *text;
        char *path;
};

static const struct setting fields[] = {
        { .name = "flag", .kind = SETTING_FLAG, SETTING_TO_FLAG(struct target, flag) },
        { .name = "number", .expects = "one", SETTING_TO_NUMBER(struct target, number, 3, 12) },
        { .name = "choice",
          .expects = "one",
          .choices = "one two three",
          SETTING_TO_CHOICE(struct target, choice) },
        { .name = "text", .expects = "one", SETTING_TO_TEXT(struct target, text) },
        { .name = "path", .expects = "one", SETTING_TO_PATH(struct target, path) },
};

static const struct setting_table field_table = { .rows = fields, .n = ARRAY_SIZE(fields) };

static int take_field(struct settings *settings, const char *name, const char *value)
{
        static const struct setting_origin origin = { .layer = SETTING_ENVIRONMENT };
        struct failure failure = { 0 };

        return settings_take(settings, setting_find(&field_table, name, strlen(name)), value, &origin,
                             &failure);
}

static void test_fields(void **state)
{
        struct target target = { 0 };
        struct settings settings;

        assert_int_equal(settings_init(&settings, &field_table, &target), 0);
        assert_int_equal(take_field(&settings, "flag", "on"), 0);
        assert_int_equal(take_field(&settings, "number", "3"), 0);
        assert_int_equal(target.number, 3);
        assert_int_equal(take_field(&settings, "number", "12"), 0);
        assert_int_equal(take_field(&settings, "choice", "two"), 0);
        assert_int_equal(target.choice, TWO);
        assert_int_equal(take_field(&settings, "choice", "three"), 0);
        assert_int_equal(take_field(&settings, "text", "some"), 0);
        assert_int_equal(take_field(&settings, "path", "/first"), 0);
        assert_int_equal(take_field(&settings, "path", "/second"), 0);
        assert_true(target.flag && target.before == 0);
        assert_int_equal(target.number, 12);
        assert_int_equal(target.choice, THREE);
        assert_string_equal(target.text, "some");
        assert_string_equal(target.path, "/second");
        settings_release(&settings);
        free(target.path);
}

static void test_bad_fields(void **state)
{
        static const char *const rows[][2] = {
                { "number", "2" },   { "number", "13" },  { "number", "" },
                { "number", " 5" },  { "number", "+5" },  { "number", "-5" },
                { "number", "5 " },  { "number", "0x5" }, { "number", "18446744073709551621" },
                { "choice", "" },    { "choice", "on" },  { "choice", "oneone" },
                { "choice", "One" }, { "choice", " " },   { "choice", "one two" },
                { "text", "" },      { "path", "" },
        };
        struct target target = { .number = 7, .choice = TWO, .text = "some", .path = NULL };
        struct settings settings;

        assert_int_equal(settings_init(&settings, &field_table, &target), 0);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (take_field(&settings, rows[i][0], rows[i][1]) != -EINVAL)
                        fail_msg("%s '%s'", rows[i][0], rows[i][1]);
        assert_true(target.number == 7 && target.choice == TWO && !target.path);
        assert_string_equal(target.text, "some");
        settings_release(&settings);
}

static int make_path(void **state)
{
        int fd = mkstemp(path);

        return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
        return unlink(path);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nearest),         cmocka_unit_test(test_file),
        cmocka_unit_test(test_bad_files),       cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_flags_and_lists), cmocka_unit_test(test_faults),
        cmocka_unit_test(test_export),          cmocka_unit_test(test_table),
        cmocka_unit_test(test_fields),          cmocka_unit_test(test_bad_fields),
};

int main(void)
{
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, make_path, remove_path);
}
