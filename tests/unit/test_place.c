#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

#include "cache/place.h"

static void test_kinds(void **state)
{
        static const struct {
                unsigned long magic;
                int on_device;
                const char *kind;
        } rows[] = {
                { 0x6969, 0, "NFS" },
                { 0xff534d42, 0, "CIFS" },
                { 0xfe534d42, 0, "SMB" },
                { 0x00c36400, 0, "Ceph" },
                { 0x01021997, 0, "9p" },
                { 0x65735546, 0, "FUSE" },
                { 0x65735546, 1, NULL },
                { 0xef53, 1, NULL },
                { 0x01021994, 0, NULL },
                { 0x9123683e, 0, NULL },
                { 0x58465342, 1, NULL },
                { 0x794c7630, 0, NULL },
                { (unsigned long)(int)0xff534d42, 0, "CIFS" },
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                const char *kind = place_kind(rows[i].magic, rows[i].on_device);
                if (rows[i].kind)
                        assert_string_equal(kind, rows[i].kind);
                else
                        assert_null(kind);
        }
}

static void test_folders(void **state)
{
        const char *kind = NULL;

        assert_int_equal(place_check("/tmp", &kind), 0);
        assert_int_equal(place_check("/tmp/not there/nor this//or that/", &kind), 0);
        assert_int_equal(place_check("not there", &kind), 0);
        assert_int_equal(place_check("/", &kind), 0);
        assert_null(kind);
        assert_int_equal(place_check("/dev/null/x", &kind), -ENOTDIR);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_kinds),
                cmocka_unit_test(test_folders),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
