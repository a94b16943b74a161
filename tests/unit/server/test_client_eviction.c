/* The limit that maxmemory-clients sets; evicting is tests/integration/test_client_eviction.py. */
#include "server/clients/client_eviction.h"
#include "tests/unit/server/config_fixture.h"

TestSuite(client_eviction, .init = start_config, .fini = finish_config);

static uint64_t limit_of(const char *clients, const char *maxmemory) {
    cr_assert_str_eq(set("maxmemory-clients", clients), "OK");
    cr_assert_str_eq(set("maxmemory", maxmemory), "OK");
    return client_eviction_limit_bytes(config_current());
}

Test(client_eviction, limit) {
    cr_assert_eq(limit_of("0", "0"), UINT64_MAX, "off by default");
    cr_assert_eq(limit_of("10mb", "0"), 10 << 20);
    cr_assert_eq(limit_of("1", "0"), 128 << 10, "never so low that nobody can change it");
    cr_assert_eq(limit_of("5%", "0"), UINT64_MAX, "a part of no limit");
    cr_assert_eq(limit_of("5%", "100mb"), 5 << 20);
    cr_assert_eq(limit_of("100%", "100mb"), 100 << 20);
    cr_assert_eq(limit_of("1%", "1mb"), 128 << 10);
}
