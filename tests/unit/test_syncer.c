/* Who waits for a sync is told of the end, whenever that came. */
#include "sync/syncer.h"

#include <unistd.h>

#include "cache/catalog.h"
#include "tests/tempdir.h"
#include "tests/unit/unit.h"

#define PATIENCE_SEC 60

static void ignore_changes(struct catalog_changes *changes _unused_, void *arg _unused_)
{
}

/* A signal that comes while all is still being brought up stops the syncer before anybody has asked it for something. */
static void test_asked_after_the_end(void **state _unused_)
{
        const struct syncer_wait wait = { .lazy_ms = -1 };
        char dir[] = "/tmp/test_syncer.XXXXXX";
        struct source source = { 0 };
        struct failure failure = { 0 };
        struct syncer_options options = { .on_changes = ignore_changes };
        struct syncer *syncer;

        assert_non_null(mkdtemp(dir));
        assert_int_equal(source_parse("127.0.0.1:1:/spider", &source, &failure), 0);
        assert_int_equal(session_new(&(struct session_options){ .source = &source, .timeout_ms = 1000 },
                                     &options.session, &failure),
                         0);
        assert_int_equal(catalog_open(dir, source.text, &options.catalog), 0);
        assert_int_equal(syncer_new(&options, &syncer), 0);
        session_interrupt(options.session);
        syncer_stop(syncer);
        alarm(PATIENCE_SEC);
        assert_int_equal(syncer_first(syncer, &wait, &failure), -ECANCELED);
        assert_int_equal(syncer_run(syncer, false, &failure), -ECANCELED);
        alarm(0);
        syncer_free(syncer);
        catalog_free(options.catalog);
        session_free(options.session);
        source_release(&source);
        tempdir_remove(dir);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asked_after_the_end),
};

UNIT_MAIN(tests)
