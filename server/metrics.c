#include "server/metrics.h"

#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "proto/wire.h"

#define CODES (RPC_UNAUTHENTICATED + 1)

static const char *const methods[] = {
        WIRE_METHOD_SCAN,
        WIRE_METHOD_DOWNLOAD,
        WIRE_METHOD_SYNC,
        WIRE_METHOD_HANDSHAKE,
        WIRE_METHOD_WATCH,
        WIRE_METHOD_LIST_FOLDER,
        WIRE_METHOD_FETCH,
        WIRE_METHOD_REPORT,
        WIRE_METHOD_LEARNED,
        WIRE_METHOD_ATTEND,
        WIRE_METHOD_HEALTH_CHECK,
        WIRE_METHOD_HEALTH_WATCH,
        "other",
};

static _Atomic uint64_t counters[METRIC_COUNT_];
static struct {
        _Atomic uint64_t count, sum_ns;
} durations[ARRAY_SIZE(methods)][CODES];

void metrics_add(enum metric metric, uint64_t n)
{
        atomic_fetch_add_explicit(&counters[metric], n, memory_order_relaxed);
}

uint64_t metrics_get(enum metric metric)
{
        return atomic_load_explicit(&counters[metric], memory_order_relaxed);
}

void metrics_observe_rpc(const char *method, enum rpc_code code, int64_t duration_ns)
{
        size_t i = 0;

        while (i < ARRAY_SIZE(methods) - 1 && strcmp(method, methods[i]) != 0)
                i++;
        if ((unsigned)code >= CODES)
                code = RPC_UNKNOWN;
        atomic_fetch_add(&durations[i][code].count, 1);
        atomic_fetch_add(&durations[i][code].sum_ns, duration_ns > 0 ? (uint64_t)duration_ns : 0);
}

static int format_durations(struct buffer *out)
{
        static const char name[] = "fsyncfs_rpc_duration_seconds";
        int r = buffer_printf(out, "# HELP %s Time that calls took\n# TYPE %s summary\n", name, name);

        for (size_t m = 0; m < ARRAY_SIZE(methods); m++)
                for (unsigned c = 0; r >= 0 && c < CODES; c++) {
                        uint64_t n = atomic_load(&durations[m][c].count),
                                 sum = atomic_load(&durations[m][c].sum_ns);
                        const char *code = rpc_code_name((enum rpc_code)c);
                        if (n == 0)
                                continue;
                        r = buffer_printf(out,
                                          "%s_sum{method=\"%s\",code=\"%s\"} %.6f\n"
                                          "%s_count{method=\"%s\",code=\"%s\"} %llu\n",
                                          name, methods[m], code, (double)sum / NSEC_PER_SEC, name,
                                          methods[m], code, (unsigned long long)n);
                }
        return r;
}

int metrics_format(struct buffer *out)
{
#define METRICS_ROW(id, name, help) { name, help },
        static const struct {
                const char *name, *help;
        } table[] = { METRICS_COUNTERS(METRICS_ROW) };
#undef METRICS_ROW
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(table); i++)
                r = buffer_printf(out, "# HELP %s %s\n# TYPE %s counter\n%s %llu\n", table[i].name,
                                  table[i].help, table[i].name, table[i].name,
                                  (unsigned long long)metrics_get((enum metric)i));
        return r < 0 ? r : format_durations(out);
}
