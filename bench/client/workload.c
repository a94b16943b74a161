/*
 * Compiling command templates, and writing commands. See workload.h.
 */
#include "bench/client/workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/client/zipf.h"
#include "bench/common/net.h"

#define NUMBER_DIGITS      12
/* Places at which a value may start in the pool; of incompressible values so many that those of
 * the last 64 KB, which LZ4 looks at, hardly ever overlap. */
#define POOL_START_COUNT   (1U << 16)
#define POOL_RANDOM_STARTS (1U << 24)
#define ZIPF_SAMPLE_COUNT  (1ULL << 22)
#define MAX_PATCHES        1024
#define MAX_BATCH_BYTES    (1ULL << 31)

static char four_digits[10000][4];

static void fill_four_digits(void) {
    for (unsigned i = 0; i < 10000; i++) {
        char text[8];
        snprintf(text, sizeof(text), "%04u", i % 10000);
        memcpy(four_digits[i], text, 4);
    }
}

static inline void write_digits(char *end, uint64_t number, unsigned digits) {
    while (digits >= 4) {
        end -= 4;
        memcpy(end, four_digits[number % 10000], 4);
        number /= 10000;
        digits -= 4;
    }
    while (digits > 0) {
        *--end = (char)('0' + number % 10);
        number /= 10;
        digits--;
    }
}

void workload_value(const struct workload *workload, uint64_t key, const char **data,
                    size_t *length) {
    uint64_t random = random_mix(~key);
    *data = workload->pool + (random & (workload->pool_starts - 1));
    *length = workload->value_bytes_min;
    if (workload->value_bytes_spread > 1) {
        *length += random_below(random, workload->value_bytes_spread);
    }
}

static char *append_value(const struct workload *workload, uint64_t key, char *out) {
    const char *data = NULL;
    size_t length = 0;
    workload_value(workload, key, &data, &length);
    if (workload->value_bytes_spread > 1) {
        out += sprintf(out, "$%zu\r\n", length);
    }
    memcpy(out, data, length);
    memcpy(out + length, "\r\n", 2);
    return out + length + 2;
}

char *workload_append(const struct workload *workload, uint64_t seed, char *out) {
    const struct operation *operation = workload_operation(workload, seed);
    for (uint32_t s = 0; s < operation->section_count; s++) {
        const struct section *section = &operation->sections[s];
        const struct patch *patch = &operation->patches[section->first_patch];
        memcpy(out, section->literal, section->length);
        for (uint32_t i = 0; i < section->patch_count; i++, patch++) {
            write_digits(out + patch->end, workload_key(workload, seed, patch->draw),
                         workload->digits);
        }
        out += section->length;
        if (section->value) {
            out = append_value(workload, workload_key(workload, seed, section->value_draw), out);
        }
    }
    return out;
}

/* A template on its way to becoming an operation: the literal bytes so far, and where the current
 * section began. */
struct compiler {
    const struct options *options;
    struct operation *operation;
    char *text;
    size_t length;
    size_t section_start;
    char key_text[65536 + 64];
};

static void add_text(struct compiler *compiler, const char *text, size_t length) {
    compiler->text = realloc(compiler->text, compiler->length + length);
    memcpy(compiler->text + compiler->length, text, length);
    compiler->length += length;
}

static void add_patch(struct compiler *compiler, size_t end) {
    struct operation *operation = compiler->operation;
    if (operation->patch_count == MAX_PATCHES) {
        die("operation %s has too many keys", operation->name);
    }
    operation->patches[operation->patch_count++] = (struct patch){
        .end = (uint32_t)(end - compiler->section_start),
        .draw = operation->draw_count++,
    };
}

/* Ends the section; its literal is an offset until the text has stopped moving. */
static void end_section(struct compiler *compiler, bool value) {
    struct operation *operation = compiler->operation;
    uint32_t first = 0;
    if (operation->section_count > 0) {
        struct section *last = &operation->sections[operation->section_count - 1];
        first = last->first_patch + last->patch_count;
    }
    operation->sections[operation->section_count++] = (struct section){
        .literal = NULL,
        .length = (uint32_t)(compiler->length - compiler->section_start),
        .first_patch = first,
        .patch_count = operation->patch_count - first,
        .value = value,
        .value_draw = operation->draw_count == 0 ? 0 : operation->draw_count - 1,
    };
    compiler->section_start = compiler->length;
}

static void compile_value(struct compiler *compiler) {
    const struct options *options = compiler->options;
    char header[32];
    if (options->value_bytes_min == options->value_bytes_max) {
        int length = snprintf(header, sizeof(header), "$%u\r\n", options->value_bytes_min);
        add_text(compiler, header, (size_t)length);
    }
    end_section(compiler, true);
}

/* Expands the placeholders of one word. `ends` gets the place in the word after each number's
 * digits. */
static size_t expand_word(struct compiler *compiler, const char *word, char *out, size_t *ends,
                          unsigned *end_count) {
    size_t length = 0;
    *end_count = 0;
    while (*word != '\0') {
        const char *insert = NULL;
        size_t skip = 1;
        char number[NUMBER_DIGITS + 1] = "000000000000";
        if (strncmp(word, "__key__", 7) == 0) {
            insert = compiler->key_text;
            skip = 7;
        } else if (strncmp(word, "__number__", 10) == 0) {
            insert = number;
            skip = 10;
        }
        if (insert != NULL) {
            memcpy(out + length, insert, strlen(insert));
            length += strlen(insert);
            ends[(*end_count)++] = length;
        } else {
            out[length++] = *word;
        }
        word += skip;
    }
    return length;
}

static void compile_word(struct compiler *compiler, const char *word) {
    char header[32];
    size_t ends[64];
    unsigned end_count = 0;
    if (strcmp(word, "__value__") == 0) {
        compile_value(compiler);
        return;
    }
    if (strlen(word) > 7 * 64) {
        die("a word of a command is too long");
    }
    char *expanded = malloc((strlen(compiler->key_text) + 1) * 64 + 64 * NUMBER_DIGITS);
    size_t length = expand_word(compiler, word, expanded, ends, &end_count);
    int header_length = snprintf(header, sizeof(header), "$%zu\r\n", length);
    add_text(compiler, header, (size_t)header_length);
    for (unsigned i = 0; i < end_count; i++) {
        add_patch(compiler, compiler->length + ends[i]);
    }
    add_text(compiler, expanded, length);
    add_text(compiler, "\r\n", 2);
    free(expanded);
}

static void make_key_text(struct compiler *compiler, unsigned digits) {
    const struct options *options = compiler->options;
    char prefix[512];
    int length = 0;
    if (options->hash_tag != NULL) {
        length = snprintf(prefix, sizeof(prefix), "{%s}", options->hash_tag);
    } else {
        length = snprintf(prefix, sizeof(prefix), "%s", options->key_prefix);
    }
    if (length < 0 || (size_t)length >= sizeof(prefix) ||
        (unsigned)length + digits > options->key_bytes) {
        die("%u bytes are too few for keys like %s%0*d", options->key_bytes, prefix, (int)digits,
            0);
    }
    memset(compiler->key_text, '0', options->key_bytes);
    memcpy(compiler->key_text, prefix, (size_t)length);
    compiler->key_text[options->key_bytes] = '\0';
}

/* What may come back, for the commands that we know. */
static void set_expectation(struct operation *operation) {
    operation->expected_kinds = NULL;
    if (strcmp(operation->name, "get") == 0) {
        operation->expected_kinds = "$_";
        operation->returns_values = true;
    } else if (strcmp(operation->name, "set") == 0 || strncmp(operation->name, "mset", 4) == 0) {
        operation->expected_kinds = "+";
    } else if (strcmp(operation->name, "incr") == 0) {
        operation->expected_kinds = ":";
    } else if (strncmp(operation->name, "mget", 4) == 0) {
        operation->expected_kinds = "*";
        operation->returns_values = true;
    }
}

static void compile_operation(struct compiler *compiler, const struct operation_option *option,
                              unsigned digits) {
    struct operation *operation = compiler->operation;
    char *copy = strdup(option->template);
    char *position = NULL;
    char header[32];
    unsigned words = 0;
    for (const char *c = copy; *c != '\0'; c++) {
        words += *c != ' ' && (c == copy || c[-1] == ' ');
    }
    if (words == 0) {
        die("operation %s has an empty command", option->name);
    }
    snprintf(operation->name, sizeof(operation->name), "%s", option->name);
    set_expectation(operation);
    operation->sections = calloc(words + 1, sizeof(*operation->sections));
    operation->patches = calloc(MAX_PATCHES, sizeof(*operation->patches));
    make_key_text(compiler, digits);
    add_text(compiler, header, (size_t)snprintf(header, sizeof(header), "*%u\r\n", words));
    for (char *word = strtok_r(copy, " ", &position); word != NULL;
         word = strtok_r(NULL, " ", &position)) {
        compile_word(compiler, word);
    }
    if (compiler->length > compiler->section_start) {
        end_section(compiler, false);
    }
    const char *literal = compiler->text;
    for (uint32_t i = 0; i < operation->section_count; i++) {
        operation->sections[i].literal = literal;
        literal += operation->sections[i].length;
        operation->max_bytes += operation->sections[i].length;
        operation->max_bytes +=
            operation->sections[i].value ? (size_t)compiler->options->value_bytes_max + 32 : 0;
    }
    free(copy);
}

static void fill_pool(struct workload *workload, const struct options *options) {
    workload->pool_starts = options->incompressible ? POOL_RANDOM_STARTS : POOL_START_COUNT;
    size_t length = workload->pool_starts + (size_t)options->value_bytes_max;
    workload->pool = malloc(length);
    if (workload->pool == NULL) {
        die("out of memory");
    }
    for (size_t i = 0; i < length; i++) {
        uint64_t random = random_mix(i);
        workload->pool[i] =
            (char)(options->incompressible ? random & 0xff : 'a' + random_below(random, 26));
    }
}

static void fill_choices(struct workload *workload, const struct options *options) {
    for (unsigned i = 0; i < options->operation_count; i++) {
        workload->choice_count += options->operations[i].weight;
    }
    workload->choices = malloc(workload->choice_count);
    uint8_t *next = workload->choices;
    for (unsigned i = 0; i < options->operation_count; i++) {
        memset(next, (int)i, options->operations[i].weight);
        next += options->operations[i].weight;
    }
}

void workload_create(const struct options *options, struct workload *workload) {
    char text[32];
    memset(workload, 0, sizeof(*workload));
    fill_four_digits();
    workload->keys = options->keys;
    workload->keyspace = options->keyspace;
    workload->verify = options->verify;
    workload->value_bytes_min = options->value_bytes_min;
    workload->value_bytes_spread = options->value_bytes_max - options->value_bytes_min + 1;
    workload->digits =
        (unsigned)snprintf(text, sizeof(text), "%llu", (unsigned long long)options->keyspace - 1);
    workload->operation_count = options->operation_count;
    workload->draws_per_request = 1;
    fill_pool(workload, options);
    fill_choices(workload, options);
    for (unsigned i = 0; i < options->operation_count; i++) {
        struct compiler *compiler = calloc(1, sizeof(*compiler));
        struct operation *operation = &workload->operations[i];
        compiler->options = options;
        compiler->operation = operation;
        compile_operation(compiler, &options->operations[i], workload->digits);
        free(compiler);
        if (operation->draw_count > workload->draws_per_request) {
            workload->draws_per_request = operation->draw_count;
        }
        if (operation->max_bytes > workload->max_command_bytes) {
            workload->max_command_bytes = operation->max_bytes;
        }
    }
    if ((uint64_t)workload->max_command_bytes * options->pipeline > MAX_BATCH_BYTES) {
        die("a batch would be larger than 2 GiB: use a smaller --pipeline");
    }
    if (options->keys == KEYS_ZIPF) {
        workload->zipf_mask = ZIPF_SAMPLE_COUNT - 1;
        workload->zipf_samples = malloc(ZIPF_SAMPLE_COUNT * sizeof(uint32_t));
        zipf_fill(workload->zipf_samples, ZIPF_SAMPLE_COUNT, options->keyspace,
                  options->zipf_exponent, options->seed);
    }
}

void workload_destroy(struct workload *workload) {
    for (unsigned i = 0; i < workload->operation_count; i++) {
        struct operation *operation = &workload->operations[i];
        if (operation->section_count > 0) {
            free(
                (char *)operation->sections[0].literal); /* the text of all sections is one block */
        }
        free(operation->sections);
        free(operation->patches);
    }
    free(workload->choices);
    free(workload->pool);
    free(workload->zipf_samples);
}
