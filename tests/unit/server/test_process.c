/* Numbers out of files of /proc. */
#include "server/process.h"
#include "tests/unit/server/config_fixture.h"

TestSuite(process, .init = start_config, .fini = finish_config);

Test(process, numbers_of_proc) {
    static const struct {
        const char *text;
        bool number;
        int64_t value;
    } cases[] = {
        {"4096\n", true, 4096}, {"0", true, 0},      {"2 3\n", true, 2},
        {"-1\n", true, -1},     {"", false, 0},      {"\n", false, 0},
        {"max\n", false, 0},    {"12x\n", false, 0}, {"99999999999999999999\n", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t value = 0;
        write_path(path, cases[i].text);
        cr_assert_eq(process_read_number(path, &value), cases[i].number, "%s", cases[i].text);
        if (cases[i].number)
            cr_assert_eq(value, cases[i].value);
    }
    int64_t value;
    cr_assert_not(process_read_number("/nonexistent/file", &value));
    cr_assert(process_read_number("/proc/sys/net/core/somaxconn", &value));
}
