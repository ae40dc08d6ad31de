#include "fs/options.h"

#include <string.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static void parse(struct mount_options *o, const char *list)
{
        struct failure failure = { 0 };

        assert_int_equal(mount_options_init(o), 0);
        if (mount_options_parse(o, list, &failure) != 0)
                fail_msg("'%s': %s", list, failure.text);
}

static void test_defaults(void **state)
{
        struct mount_options o;

        parse(&o, "");
        assert_non_null(o.cache_dir);
        assert_null(o.token_file);
        assert_false(o.tls);
        assert_true(!o.ca && !o.cert && !o.key);
        assert_int_equal(o.timeout_sec, 30);
        assert_int_equal(o.refresh_sec, 0);
        assert_int_equal(o.uid, geteuid());
        assert_false(o.offline || o.fallback || o.xattr);
        assert_non_null(strstr(o.kernel.data, "ro,"));
        assert_non_null(strstr(o.kernel.data, "nosuid,nodev"));
        mount_options_release(&o);
}

static void test_values(void **state)
{
        struct mount_options o;

        parse(&o, "cache=/c,token_file=/t,node_name=n "
                  "1,metrics=/m/"
                  "a.prom,timeout=5,retry=0,refresh=60,uid=12,gid=0,umask=022,offline,,xattr,rw,defaults,"
                  "fallback,_netdev,nofail,x-systemd.automount,noexec,suid");
        assert_string_equal(o.cache_dir, "/c");
        assert_string_equal(o.token_file, "/t");
        assert_string_equal(o.node_name, "n 1");
        assert_string_equal(o.metrics, "/m/a.prom");
        assert_int_equal(o.timeout_sec, 5);
        assert_int_equal(o.retry_sec, 0);
        assert_int_equal(o.refresh_sec, 60);
        assert_int_equal(o.uid, 12);
        assert_int_equal(o.gid, 0);
        assert_int_equal(o.umask, 022);
        assert_true(o.offline && o.fallback && o.xattr);
        assert_non_null(strstr(o.kernel.data, ",noexec,suid"));
        assert_null(strstr(o.kernel.data, "_netdev"));
        assert_null(strstr(o.kernel.data, "rw"));
        mount_options_release(&o);
}

static void test_prefetch(void **state)
{
        struct mount_options o;

        parse(&o, "");
        assert_int_equal(o.prefetch, PREFETCH_AUTO);
        assert_int_equal(o.prefetch_rate, 0);
        mount_options_release(&o);
        parse(&o, "prefetch=off,prefetch_rate=500K");
        assert_int_equal(o.prefetch, PREFETCH_OFF);
        assert_int_equal(o.prefetch_rate, 500 << 10);
        mount_options_release(&o);
}

static void test_passthrough(void **state)
{
        static const struct {
                const char *list;
                enum passthrough_mode mode;
        } cases[] = {
                { "", PASSTHROUGH_AUTO },
                { "passthrough=on", PASSTHROUGH_ON },
                { "passthrough=off", PASSTHROUGH_OFF },
                { "passthrough=on,passthrough=auto", PASSTHROUGH_AUTO },
        };
        struct mount_options o;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                parse(&o, cases[i].list);
                assert_int_equal(o.passthrough, cases[i].mode);
                mount_options_release(&o);
        }
}

static void test_last_wins_and_names(void **state)
{
        struct mount_options o;

        parse(&o, "refresh=60,uid=root,gid=root,refresh=off");
        assert_int_equal(o.refresh_sec, 0);
        assert_int_equal(o.uid, 0);
        mount_options_release(&o);
}

static void test_limits(void **state)
{
        static const struct {
                const char *list;
                uint64_t bytes;
                unsigned percent;
        } rows[] = {
                { "quota=0", 0, 0 },
                { "quota=4096", 4096, 0 },
                { "quota=10K", 10240, 0 },
                { "quota=3m", 3 << 20, 0 },
                { "quota=20G", UINT64_C(20) << 30, 0 },
                { "quota=2T", UINT64_C(2) << 40, 0 },
                { "quota=1G,quota=100%", 0, 100 },
        };
        struct mount_options o;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                parse(&o, rows[i].list);
                assert_int_equal(o.limits.quota.bytes, rows[i].bytes);
                assert_int_equal(o.limits.quota.percent, rows[i].percent);
                /* The default of the other. */
                assert_int_equal(o.limits.floor.bytes, 1 << 30);
                assert_int_equal(o.limits.floor.percent, 5);
                mount_options_release(&o);
        }
        parse(&o, "free=0");
        assert_int_equal(o.limits.floor.bytes, 0);
        assert_int_equal(o.limits.floor.percent, 0);
        assert_int_equal(o.limits.quota.bytes, 0);
        mount_options_release(&o);
}

static void test_relative_paths(void **state)
{
        char cwd[4096], expected[4200];
        struct mount_options o;

        assert_non_null(getcwd(cwd, sizeof(cwd)));
        snprintf(expected, sizeof(expected), "%s/sub", cwd);
        parse(&o, "cache=sub");
        assert_string_equal(o.cache_dir, expected);
        mount_options_release(&o);
}

static void test_bad(void **state)
{
        static const char *const bad[][2] = {
                { "foo", "'foo'" },
                { "foo=1", "'foo'" },
                { "cache", "cache" },
                { "cache=", "cache" },
                { "domain", "domain" },
                { "domain=", "domain" },
                { "domain=..", "domain" },
                { "domain=.a", "domain" },
                { "domain=a/b", "domain" },
                { "domain=a b", "domain" },
                { "timeout=0", "timeout" },
                { "timeout=x", "timeout" },
                { "timeout=-1", "timeout" },
                { "timeout=99999999999", "timeout" },
                { "retry=-1", "retry" },
                { "retry=1m", "retry" },
                { "refresh=0", "refresh" },
                { "refresh=1s", "refresh" },
                { "uid=no-such-user-here", "uid" },
                { "gid=", "gid" },
                { "umask=8", "umask" },
                { "umask=77777", "umask" },
                { "offline=1", "offline" },
                { "xattr=yes", "xattr" },
                { "ro,quota=1Gx", "quota" },
                { "prefetch=maybe", "prefetch" },
                { "passthrough", "passthrough" },
                { "passthrough=maybe", "passthrough" },
                { "prefetch_rate=", "prefetch_rate" },
                { "prefetch_rate=5%", "prefetch_rate" },
                { "prefetch_rate=fast", "prefetch_rate" },
                { "quota=", "quota" },
                { "quota=G", "quota" },
                { "quota=-1", "quota" },
                { "quota=1.5G", "quota" },
                { "quota=101%", "quota" },
                { "quota=9P%", "quota" },
                { "quota=99999999T", "quota" },
                { "free=1Q", "free" },
                { "token=secret", "'token'" },
                { "node_name=", "node_name" },
                { "node_name=a\tb", "node_name" },
                { "node_name=\xff", "node_name" },
                { "metrics=", "metrics" },
                { "metrics=.prom", "metrics" },
                { "metrics=/m/a.txt", "metrics" },
                { "tls=yes", "tls" },
                { "ca=", "ca" },
                { "cert", "cert" },
                { "key=", "key" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct failure failure = { 0 };
                struct mount_options o;
                assert_int_equal(mount_options_init(&o), 0);
                if (mount_options_parse(&o, bad[i][0], &failure) != -EINVAL)
                        fail_msg("'%s' was accepted", bad[i][0]);
                if (!strstr(failure.text, bad[i][1]))
                        fail_msg("'%s': '%s' does not name it", bad[i][0], failure.text);
                assert_null(strstr(failure.text, "secret"));
                mount_options_release(&o);
        }
}

static void test_tls(void **state)
{
        static const struct {
                const char *list, *names; /* NULL: fine */
        } rows[] = {
                { "tls", NULL },
                { "tls,ca=/ca", NULL },
                { "tls,ca=/ca,cert=/c,key=/k", NULL },
                { "ca=/ca", "'ca'" },
                { "cert=/c,key=/k", "'cert'" },
                { "tls,cert=/c", "'key'" },
                { "tls,key=/k", "'cert'" },
        };
        struct mount_options o;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct failure failure = { 0 };

                parse(&o, rows[i].list);
                assert_int_equal(mount_options_finish(&o, &failure), rows[i].names ? -EINVAL : 0);
                if (rows[i].names && !strstr(failure.text, rows[i].names))
                        fail_msg("'%s': '%s' does not name it", rows[i].list, failure.text);
                mount_options_release(&o);
        }
        parse(&o, "key=/k,cert=/c,ca=/a,tls");
        assert_true(o.tls);
        assert_string_equal(o.ca, "/a");
        assert_string_equal(o.cert, "/c");
        assert_string_equal(o.key, "/k");
        mount_options_release(&o);
}

static void test_domain(void **state)
{
        struct failure failure = { 0 };
        struct mount_options o;
        char name[80];

        parse(&o, "domain=tenant-1.a_B,cache=/c");
        assert_int_equal(mount_options_finish(&o, &failure), 0);
        assert_string_equal(o.cache_dir, "/c/domains/tenant-1.a_B");
        mount_options_release(&o);
        parse(&o, "domain=a,cache=/c,domain=b");
        assert_int_equal(mount_options_finish(&o, &failure), 0);
        assert_string_equal(o.cache_dir, "/c/domains/b");
        mount_options_release(&o);
        memset(name, 'x', sizeof(name));
        memcpy(name, "domain=", 7);
        name[7 + 64] = '\0';
        parse(&o, name);
        mount_options_release(&o);
        name[7 + 64] = 'x';
        name[7 + 65] = '\0';
        assert_int_equal(mount_options_init(&o), 0);
        assert_int_equal(mount_options_parse(&o, name, &failure), -EINVAL);
        mount_options_release(&o);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_prefetch),
        cmocka_unit_test(test_passthrough),
        cmocka_unit_test(test_last_wins_and_names),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_relative_paths),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_domain),
};

UNIT_MAIN(tests)
