/* Configuration files made of arbitrary bytes: parsing never crashes, leaks or touches anything
 * outside, and every refusal has a message in Redis's frame. */
#include <stdint.h>
#include <string.h>

#include "engine/assert.h"
#include "server/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char error[CONFIG_ERROR_SIZE];

    if (config_published == NULL)
        config_init(NULL);
    if (config_check_text((const char *)data, size, error, sizeof error) < 0)
        ASSERT(strncmp(error, "\n*** FATAL CONFIG FILE ERROR (Redis ", 36) == 0);
    else
        ASSERT(error[0] == '\0');
    return 0;
}
