#include "base/log.h"

#include <jansson.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/unit.h"

/* What was said last, where standard error is a file of our own meanwhile. */
static char said[16384];
static int file_fd, terminal_fd;

static void listen_begin(void)
{
        file_fd = memfd_create("log", MFD_CLOEXEC);
        terminal_fd = dup(STDERR_FILENO);
        assert_true(file_fd >= 0 && terminal_fd >= 0);
        assert_int_equal(dup2(file_fd, STDERR_FILENO), STDERR_FILENO);
}

static void listen_end(void)
{
        ssize_t n = pread(file_fd, said, sizeof(said) - 1, 0);

        assert_int_equal(dup2(terminal_fd, STDERR_FILENO), STDERR_FILENO);
        close(terminal_fd);
        close(file_fd);
        assert_true(n >= 0);
        said[n] = '\0';
}

/* As systemd does for a service whose standard error is the journal, which here is the file's inode and SHIFT. */
static void be_journal(unsigned shift)
{
        char text[64];
        struct stat st;

        assert_int_equal(fstat(STDERR_FILENO, &st), 0);
        snprintf(text, sizeof(text), "%llu:%llu", (unsigned long long)st.st_dev,
                 (unsigned long long)st.st_ino + shift);
        setenv("JOURNAL_STREAM", text, 1);
}

static int leave(void **state)
{
        unsetenv("JOURNAL_STREAM");
        log_set_format(LOG_FORMAT_TEXT);
        log_set_context(NULL, NULL);
        log_setup("test", LOG_LEVEL_INFO);
        return 0;
}

static void say_all(void)
{
        log_error("an %s", "error");
        log_warning("a\nbreak");
        log_info("a line");
        log_debug("not this one");
}

static void test_text(void **state)
{
        listen_begin();
        log_setup("prog", LOG_LEVEL_INFO);
        say_all();
        listen_end();
        assert_string_equal(said, "prog: error: an error\nprog: warning: a?break\nprog: a line\n");
}

static void test_journal(void **state)
{
        listen_begin();
        be_journal(0);
        log_setup("prog", LOG_LEVEL_INFO);
        say_all();
        listen_end();
        assert_string_equal(said, "<3>error: an error\n<4>warning: a?break\n<6>a line\n");
}

/* A child whose standard error was sent elsewhere still has the variable. */
static void test_no_journal(void **state)
{
        static const char *const others[] = { NULL, "", "1", "x:y" };

        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
                listen_begin();
                if (others[i])
                        setenv("JOURNAL_STREAM", others[i], 1);
                else
                        be_journal(1);
                log_setup("prog", LOG_LEVEL_INFO);
                log_info("a line");
                listen_end();
                assert_string_equal(said, "prog: a line\n");
        }
}

static const char *member(const json_t *object, const char *name)
{
        return json_string_value(json_object_get(object, name)) ?: "(none)";
}

static void test_json(void **state)
{
        int64_t before = (int64_t)time(NULL);
        struct tm tm = { 0 };
        const char *rest;
        json_t *j;

        listen_begin();
        log_setup("prog", LOG_LEVEL_INFO);
        log_set_format(LOG_FORMAT_JSON);
        log_set_context("mount", "/mnt/a");
        log_warning("a \"word\" and\ta \\");
        listen_end();
        assert_int_equal(strcspn(said, "\n"), strlen(said) - 1);
        j = json_loads(said, 0, NULL);
        assert_non_null(j);
        assert_string_equal(member(j, "level"), "warning");
        assert_string_equal(member(j, "program"), "prog");
        assert_string_equal(member(j, "message"), "a \"word\" and?a \\");
        assert_string_equal(member(j, "mount"), "/mnt/a");
        assert_string_not_equal(member(j, "thread"), "(none)");
        assert_int_equal(json_integer_value(json_object_get(j, "pid")), getpid());
        rest = strptime(member(j, "time"), "%Y-%m-%dT%H:%M:%S", &tm);
        assert_non_null(rest);
        assert_int_equal(strlen(rest), 5);
        assert_true(rest[0] == '.' && rest[4] == 'Z');
        assert_true(timegm(&tm) >= before && timegm(&tm) <= time(NULL));
        json_decref(j);
}

/* What a peer sends is not always UTF-8, and what is long is cut, perhaps within a character. */
static void test_json_hostile(void **state)
{
        static const char *const rows[][2] = {
                { "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
                { "bad \xff\xc3\xbc", "bad ???" },
                { "half \xc3", "half ?" },
                { "bell \a", "bell ?" },
                { "", "" },
        };
        char longest[5000];
        json_t *j;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                listen_begin();
                log_setup("prog", LOG_LEVEL_INFO);
                log_set_format(LOG_FORMAT_JSON);
                log_info("%s", rows[i][0]);
                listen_end();
                j = json_loads(said, 0, NULL);
                assert_non_null(j);
                assert_string_equal(member(j, "message"), rows[i][1]);
                json_decref(j);
        }
        memset(longest, '"', sizeof(longest) - 1);
        longest[sizeof(longest) - 1] = '\0';
        listen_begin();
        log_info("%s", longest);
        listen_end();
        j = json_loads(said, 0, NULL);
        assert_non_null(j);
        assert_int_equal(strlen(member(j, "message")), 4095);
        json_decref(j);
}

static void test_json_journal(void **state)
{
        json_t *j;

        listen_begin();
        be_journal(0);
        log_setup("prog", LOG_LEVEL_INFO);
        log_set_format(LOG_FORMAT_JSON);
        log_error("bad");
        listen_end();
        assert_memory_equal(said, "<3>{", 4);
        j = json_loads(said + 3, 0, NULL);
        assert_string_equal(member(j, "level"), "error");
        json_decref(j);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_text, leave),
        cmocka_unit_test_teardown(test_journal, leave),
        cmocka_unit_test_teardown(test_no_journal, leave),
        cmocka_unit_test_teardown(test_json, leave),
        cmocka_unit_test_teardown(test_json_hostile, leave),
        cmocka_unit_test_teardown(test_json_journal, leave),
};

UNIT_MAIN(tests)
