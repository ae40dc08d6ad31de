#include "base/log.h"

#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
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

/* ---- nobody reads ---- */

#define MANY 10000 /* lines: more than any of them holds */

/* Standard error is WRITE_FD, given away. */
static void listen_to(int write_fd)
{
        terminal_fd = dup(STDERR_FILENO);
        assert_true(terminal_fd >= 0 && write_fd >= 0);
        assert_int_equal(dup2(write_fd, STDERR_FILENO), STDERR_FILENO);
        close(write_fd);
}

static void stop_listening(void)
{
        assert_int_equal(dup2(terminal_fd, STDERR_FILENO), STDERR_FILENO);
        close(terminal_fd);
}

/* All that is there now, up to `said`'s end; the last lines if there is more. */
static size_t drain(int fd)
{
        struct pollfd p = { .fd = fd, .events = POLLIN };
        size_t len = 0, all = 0;

        while (poll(&p, 1, 0) == 1 && (p.revents & POLLIN)) {
                ssize_t n;

                if (len > sizeof(said) / 2) {
                        memmove(said, said + len - sizeof(said) / 4, sizeof(said) / 4);
                        len = sizeof(said) / 4;
                }
                n = read(fd, said + len, sizeof(said) - 1 - len);
                assert_true(n > 0);
                len += (size_t)n;
                all += (size_t)n;
        }
        said[len] = '\0';
        return all;
}

static void say_many(void)
{
        for (int i = 0; i < MANY; i++)
                log_info("line %d of many, and something to make it longer than a word or two", i);
}

/* Standard error is FDS[1], and what comes of it is in FDS[0]: lines that are whole, the first ones; and when there is room again those that are lost are counted. */
static void judge_stuck(const int fds[2])
{
        const int fd = fds[0];
        char last[200];
        unsigned taken;
        const char *p;

        log_setup("prog", LOG_LEVEL_INFO);
        listen_to(fds[1]);
        say_many();
        assert_true(drain(fd) > 0);
        for (p = said + strlen(said) - 1; p > said && p[-1] != '\n'; p--)
                ;
        assert_int_equal(sscanf(p, "prog: line %u of many", &taken), 1);
        assert_true(++taken < MANY);
        log_info("there again");
        drain(fd);
        snprintf(last, sizeof(last),
                 "prog: there again\nprog: warning: %u lines before the last one are lost: ", MANY - taken);
        assert_memory_equal(said, last, strlen(last));
        log_info("and on");
        drain(fd);
        assert_string_equal(said, "prog: and on\n");
        stop_listening();
        close(fd);
}

static void test_stuck_pipe(void **state)
{
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        judge_stuck(fds);
}

static void test_stuck_socket(void **state)
{
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        judge_stuck(fds);
}

/* A line of a kind that a pipe does not take at once. */
static void test_long_line(void **state)
{
        char longest[5000];
        int fds[2];

        memset(longest, '"', sizeof(longest) - 1);
        longest[sizeof(longest) - 1] = '\0';
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_true(fcntl(fds[1], F_SETPIPE_SZ, 8192) == 8192);
        log_setup("prog", LOG_LEVEL_INFO);
        log_set_format(LOG_FORMAT_JSON);
        listen_to(fds[1]);
        log_info("%s", longest); /* longer than the pipe */
        assert_int_equal(drain(fds[0]), 8192);
        log_info("short");
        assert_true(drain(fds[0]) > 0);
        assert_non_null(
                strstr(said, "\"message\":\"1 lines before the last one are lost: nobody took them\""));
        stop_listening();
        close(fds[0]);
}

/* ---- the system log ---- */

static char socket_path[64];

static int be_syslogd(void)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        strcpy(address.sun_path, socket_path);
        unlink(socket_path);
        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        return fd;
}

/* One line, into `said`; false: none is there. */
static bool take_line(int fd)
{
        ssize_t n = read(fd, said, sizeof(said) - 1);

        said[MAX(n, 0)] = '\0';
        return n > 0;
}

/* "<PRIORITY>Nov  1 12:34:56 prog[PID]: TEXT" */
static void assert_line(int fd, int priority, const char *text)
{
        char tail[200];
        struct tm tm = { 0 };
        const char *rest;
        int head;

        assert_true(take_line(fd));
        assert_int_equal(sscanf(said, "<%*d>%n", &head), 0);
        assert_int_equal(strtol(said + 1, NULL, 10), 3 << 3 | priority); /* facility 3: daemons */
        rest = strptime(said + head, "%b %e %H:%M:%S ", &tm);
        assert_non_null(rest);
        assert_int_equal(rest - (said + head), strlen("Nov  1 12:34:56 "));
        snprintf(tail, sizeof(tail), "prog[%d]: %s", getpid(), text);
        assert_string_equal(rest, tail);
}

static void test_syslog(void **state)
{
        unsigned taken = 0;
        char lost[200];
        int fd;

        snprintf(socket_path, sizeof(socket_path), "/tmp/fsyncfs-test-log-%d", getpid());
        setenv("FSYNCFS_TEST_SYSLOG", socket_path, 1);
        log_setup("prog", LOG_LEVEL_INFO);
        log_to_syslog();
        log_info("nobody is there");
        fd = be_syslogd();
        log_error("an error\nof two lines");
        assert_line(fd, 3, "error: an error?of two lines");
        assert_line(fd, 4, "warning: 1 lines before the last one are lost: nobody took them");
        log_info("a line");
        assert_line(fd, 6, "a line");
        assert_false(take_line(fd));

        say_many(); /* and nobody reads */
        while (take_line(fd))
                taken++;
        assert_true(taken > 0 && taken < MANY);
        log_info("there again");
        assert_line(fd, 6, "there again");
        snprintf(lost, sizeof(lost), "warning: %u lines before the last one are lost: nobody took them",
                 MANY - taken);
        assert_line(fd, 4, lost);

        close(fd);
        fd = be_syslogd(); /* another one, as after an upgrade of it */
        log_info("a line");
        assert_line(fd, 6, "a line");
        close(fd);
        unlink(socket_path);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_text, leave),
        cmocka_unit_test_teardown(test_journal, leave),
        cmocka_unit_test_teardown(test_no_journal, leave),
        cmocka_unit_test_teardown(test_json, leave),
        cmocka_unit_test_teardown(test_json_hostile, leave),
        cmocka_unit_test_teardown(test_json_journal, leave),
        cmocka_unit_test_teardown(test_stuck_pipe, leave),
        cmocka_unit_test_teardown(test_stuck_socket, leave),
        cmocka_unit_test_teardown(test_long_line, leave),
        cmocka_unit_test(test_syslog), /* the last: there is no way back */
};

UNIT_MAIN(tests)
