/* What people and the kernel write: mount options, SOURCE, sizes, lines of mountinfo. Read, or refused with a line that says why. */
#include "fs/mountinfo.c" /* its parser of a line is nobody else's */

#include <assert.h>

#include "base/path.h"
#include "fs/options.h"
#include "sync/source.h"
#include "tests/fuzz/driver.h"

static void parse_options(const char *text)
{
        struct mount_options options;
        struct failure failure = { 0 };
        int r;

        assert(mount_options_init(&options) == 0);
        r = mount_options_parse(&options, text, &failure);
        assert(r == 0 || failure.text[0]);
        assert(r < 0 || (options.cache_dir && options.timeout_sec > 0 && options.umask <= 0777));
        mount_options_release(&options);
}

static void parse_source(const char *text)
{
        struct failure failure = { 0 };
        struct source source = { 0 };

        if (source_parse(text, &source, &failure) < 0) {
                assert(failure.text[0] && !source.text);
                return;
        }
        assert(source.n_masters >= 1 && source.n_masters <= SOURCE_MASTERS_MAX);
        assert(path_check_name(source.spider, strlen(source.spider)) == 0);
        assert(path_check(source.path, strlen(source.path)) == 0);
        source_release(&source);
}

static void parse_mountinfo(char *text)
{
        struct mountinfo info = { 0 };

        if (parse_line(text, &info) < 0)
                return;
        assert(info.device && info.target && info.type && info.source);
        mountinfo_release(&info);
}

void fuzz_one(const uint8_t *data, size_t len)
{
        char *text = malloc(len + 1);
        struct store_amount amount;

        assert(text);
        memcpy(text, data, len);
        text[len] = '\0';
        parse_options(text);
        parse_source(text);
        (void)mount_options_parse_amount(text, &amount);
        parse_mountinfo(text); /* last: it cuts the text up */
        free(text);
}
