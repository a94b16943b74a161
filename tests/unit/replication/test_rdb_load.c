/* Saving a keyspace to a file and loading it again, on several threads; files that are wrong. */
#include <sys/stat.h>
#include <unistd.h>

#include "engine/exclusive.h"
#include "engine/types/hash.h"
#include "engine/value.h"
#include "replication/crc64.h"
#include "replication/rdb_load.h"
#include "replication/rdb_save.h"
#include "tests/unit/engine/keyspace_fixture.h"

static char folder[] = "/tmp/slotwise-rdb-XXXXXX";

static void setup(void) {
    crc64_init();
    keyspace_begin();
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
}

static void teardown(void) {
    keyspace_end();
    unlink("dump.rdb");
    cr_assert_eq(chdir("/"), 0);
    cr_assert_eq(rmdir(folder), 0, "a temporary file was left");
}

TestSuite(rdb_load, .init = setup, .fini = teardown, .timeout = 120);

static char notes[8192];

static void take_note(void *context, bool warning, const char *text) {
    (void)context;
    size_t length = strlen(notes);
    snprintf(notes + length, sizeof notes - length, "%s%s\n", warning ? "# " : "", text);
}

static struct rdb_save_options save_options(void) {
    return (struct rdb_save_options){.path = "dump.rdb",
                                     .compression = true,
                                     .checksum = true,
                                     .incremental_sync = true,
                                     .version = RDB_VERSION_WRITTEN,
                                     .info = {.server_version = "7.2.4",
                                              .created_s = clock_now_ms() / 1000,
                                              .used_memory_bytes = 3 << 20}};
}

static void save_file(void) {
    static struct rdb_save save;
    struct rdb_save_options options = save_options();
    cr_assert_eq(rdb_save_begin(&save, keyspace, &options), 0, "%s", save.message);
    rdb_save_walk(&save);
    cr_assert_eq(rdb_save_finish(&save), 0, "%s", save.message);
}

static struct rdb_load_progress progress;

static enum rdb_load_result load_file(unsigned threads, bool keep_expired, bool replace) {
    struct rdb_load_options options = {.keyspace = keyspace,
                                       .threads = threads,
                                       .thread_number = 1,
                                       .keep_expired = keep_expired,
                                       .replace = replace,
                                       .checksum = true,
                                       .string_bytes = UINT32_MAX,
                                       .note = take_note};
    struct rdb_load_info info;
    memset(&progress, 0, sizeof progress);
    notes[0] = 0;
    enum rdb_load_result result = rdb_load_file("dump.rdb", &options, &progress, &info);
    return result;
}

static void clear_all(void) {
    change_begin(&change);
    keyspace_garbage_free(keyspace_clear(&change, -1), false);
}

#define KEYS 5000

static size_t value_length(unsigned i) {
    return i % 500 == 0 ? 40000 + i : i % 7 * (i % 90);
}

/* Keys of every kind of string in three databases. */
static void fill(void) {
    char name[64], *value = memory_alloc(50000);
    for (unsigned i = 0; i < KEYS; i++) {
        size_t length = value_length(i);
        if (i % 3 == 0)
            length = (size_t)snprintf(value, 50000, "%lld", (long long)i * i * i * i - 1000);
        else
            for (size_t k = 0; k < length; k++)
                value[k] = (char)(k % (i % 13 + 1) * i);
        snprintf(name, sizeof name, "key:%u", i);
        struct key key = key_of(name);
        struct slot *slot = token_of(&key);
        keyspace_add(&change,
                     i % 5 == 0    ? 3
                     : i % 11 == 0 ? 15
                                   : 0,
                     &key,
                     object_make_string(name, strlen(name), value, length,
                                        i % 4 == 0 ? FAR_AWAY + i : NEVER, STRING_SET),
                     CHANGE_SET);
        slot_release(slot);
        epoch_quiescent();
    }
    memory_free(value);
}

/* A sum over all that there is, whatever the order. */
static uint64_t content(void) {
    uint64_t sum = 0;
    char name[64], buffer[OBJECT_INTEGER_BUFFER];
    for (unsigned i = 0; i < KEYS; i++)
        for (unsigned database = 0; database < DATABASES; database++) {
            snprintf(name, sizeof name, "key:%u", i);
            const struct object *object = raw(database, name);
            if (!object)
                continue;
            size_t length;
            const char *text = object_string(object, buffer, &length);
            uint64_t crc = crc64(i * 31 + database, text, length);
            sum += crc * (uint64_t)(object_expiry(object) | 1) + object->type_encoding;
        }
    return sum;
}

Test(rdb_load, what_was_saved_is_loaded_whatever_the_number_of_threads) {
    fill();
    uint64_t before = content(), keys = keyspace_count(keyspace, 0);
    save_file();
    for (unsigned threads = 1; threads <= 5; threads += 2) {
        clear_all();
        cr_assert_eq(load_file(threads, false, false), RDB_LOAD_DONE, "%s", notes);
        cr_assert_eq(content(), before);
        cr_assert_eq(keyspace_count(keyspace, 0), keys);
        cr_assert_eq(atomic_load(&progress.keys_loaded), KEYS);
        cr_assert_eq(atomic_load(&progress.loaded_bytes), atomic_load(&progress.total_bytes));
        check_keyspace();
    }
    cr_assert_eq(strncmp(notes, "Loading RDB produced by version 7.2.4\nRDB age ", 46), 0, "%s",
                 notes);
    cr_assert_not_null(strstr(notes, "\nRDB memory usage when created 3.00 Mb\n"));
    cr_assert_not_null(strstr(notes, "Done loading RDB, keys loaded: 5000, keys expired: 0.\n"));
}

Test(rdb_load, there_is_no_file) {
    cr_assert_eq(load_file(2, false, false), RDB_LOAD_NO_FILE);
    cr_assert_str_eq(notes, "");
}

Test(rdb_load, what_has_expired_is_left_out_unless_a_primary_decides) {
    put(0, "over", "v", LONG_AGO);
    put(0, "later", "v", FAR_AWAY);
    put(2, "never", "v", NEVER);
    save_file();
    clear_all();
    cr_assert_eq(load_file(2, false, false), RDB_LOAD_DONE);
    cr_assert_null(raw(0, "over"));
    cr_assert_eq(object_expiry(raw(0, "later")), FAR_AWAY);
    cr_assert_not_null(raw(2, "never"));
    cr_assert_eq(atomic_load(&progress.keys_expired), 1);
    clear_all();
    cr_assert_eq(load_file(2, true, false), RDB_LOAD_DONE);
    cr_assert_eq(object_expiry(raw(0, "over")), LONG_AGO);
    check_keyspace();
}

Test(rdb_load, a_key_that_is_there_gives_way_or_is_an_error) {
    put(0, "k", "saved", NEVER);
    save_file();
    put(0, "k", "other", FAR_AWAY);
    cr_assert_eq(load_file(2, false, false), RDB_LOAD_FAILED);
    cr_assert_not_null(strstr(notes, "# RDB has duplicated key 'k' in DB 0\n"), "%s", notes);
    cr_assert_eq(load_file(2, false, true), RDB_LOAD_DONE);
    cr_assert_eq(object_string_length(raw(0, "k")), 5);
    cr_assert_eq(object_expiry(raw(0, "k")), NEVER);
    check_keyspace();
}

Test(rdb_load, access_clocks_survive) {
    keyspace->access.tracked = true;
    put(0, "idle", "v", NEVER);
    struct object *object = raw(0, "idle");
    access_restore(&keyspace->access, object, 5000, -1);
    save_file();
    clear_all();
    cr_assert_eq(load_file(1, false, false), RDB_LOAD_DONE);
    cr_assert_geq(access_idle_ms(raw(0, "idle")), 5000000);
    keyspace->access.lfu = true;
    access_restore(&keyspace->access, raw(0, "idle"), -1, 77);
    save_file();
    clear_all();
    cr_assert_eq(load_file(1, false, false), RDB_LOAD_DONE);
    cr_assert_eq(access_lfu_counter(&keyspace->access, raw(0, "idle")), 77);
}

static long file_size(void) {
    struct stat stat_now;
    cr_assert_eq(stat("dump.rdb", &stat_now), 0);
    return (long)stat_now.st_size;
}

Test(rdb_load, a_file_cut_anywhere_or_changed_fails) {
    put_many(0, "some", 300, NEVER);
    save_file();
    long size = file_size();
    for (long cut = size - 1; cut >= 0; cut -= cut > 150 && cut < size - 150 ? 97 : 1) {
        cr_assert_eq(truncate("dump.rdb", cut), 0);
        clear_all();
        cr_assert_eq(load_file(2, false, false), RDB_LOAD_FAILED, "%ld bytes", cut);
        cr_assert_not_null(strstr(notes, "# Short read or OOM loading DB. Unrecoverable error, "
                                         "aborting now.\n"));
    }
    clear_all();
    put_many(0, "some", 300, NEVER);
    save_file();
    clear_all();
    FILE *file = fopen("dump.rdb", "r+");
    fseek(file, -20, SEEK_END);
    fputc('!', file);
    fclose(file);
    cr_assert_eq(load_file(2, false, false), RDB_LOAD_FAILED);
    cr_assert_not_null(strstr(notes, "-> RDB CRC error\n"), "%s", notes);
}

Test(rdb_load, it_can_be_stopped) {
    put_many(0, "some", 300, NEVER);
    save_file();
    clear_all();
    struct rdb_load_options options = {.keyspace = keyspace,
                                       .threads = 2,
                                       .thread_number = 1,
                                       .string_bytes = UINT32_MAX,
                                       .note = take_note};
    struct rdb_load_info info;
    memset(&progress, 0, sizeof progress);
    atomic_store(&progress.stop, true);
    cr_assert_eq(rdb_load_file("dump.rdb", &options, &progress, &info), RDB_LOAD_STOPPED);
}

Test(rdb_load, a_save_that_cannot_be_finished_leaves_the_old_file) {
    static struct rdb_save save;
    put(0, "k", "v", NEVER);
    save_file();
    long size = file_size();
    struct rdb_save_options options = save_options();
    cr_assert_eq(rdb_save_begin(&save, keyspace, &options), 0);
    rdb_save_walk(&save);
    rdb_save_abort(&save);
    cr_assert_eq(file_size(), size);
    options.path = "nowhere/dump.rdb";
    cr_assert_lt(rdb_save_begin(&save, keyspace, &options), 0);
    cr_assert_eq(strncmp(save.message, "Failed opening the temp RDB file nowhere/temp-", 46), 0,
                 "%s", save.message);
    cr_assert_eq(mkdir("dump", 0700), 0);
    options.path = "dump";
    cr_assert_eq(rdb_save_begin(&save, keyspace, &options), 0);
    cr_assert_lt(rdb_save_finish(&save), 0);
    cr_assert_eq(strncmp(save.message, "Error moving temp DB file temp-", 31), 0, "%s",
                 save.message);
    cr_assert_eq(rmdir("dump"), 0);
}

/* To free a large file takes the kernel long: not while others wait for the rename. */
Test(rdb_load, what_a_save_replaces_is_freed_when_it_settles) {
    static struct rdb_save save;
    struct stat replaced;
    put(0, "k", "v", NEVER);
    save_file();
    struct rdb_save_options options = save_options();
    cr_assert_eq(rdb_save_begin(&save, keyspace, &options), 0);
    cr_assert_eq(rdb_save_close(&save), 0);
    cr_assert_eq(rdb_save_rename(&save), 0);
    cr_assert_eq(fstat(save.replaced_fd, &replaced), 0);
    cr_assert_eq(replaced.st_nlink, 0);
    cr_assert_eq(rdb_save_settle(&save), 0);
    cr_assert_eq(save.replaced_fd, -1);
    cr_assert_eq(unlink("dump.rdb"), 0);
    cr_assert_eq(rdb_save_begin(&save, keyspace, &options), 0);
    cr_assert_eq(rdb_save_finish(&save), 0, "there need not have been one");
}

/* --- Collections ------------------------------------------------------------------------------ */

static void put_hash(const char *name, unsigned fields, int64_t expiry_ms) {
    struct collection_edit draft;
    struct key key = key_of(name);
    char text[32];
    collection_draft_begin(&draft, OBJECT_HASH, ENCODING_LISTPACK);
    for (unsigned i = 0; i < fields; i++) {
        size_t length = (size_t)snprintf(text, sizeof text, "field-%u", i);
        hash_put(&draft, text, length, text + 3, length - 3);
    }
    struct object *object = collection_draft_end(&draft, name, strlen(name), expiry_ms);
    struct slot *slot = token_of(&key);
    keyspace_add(&change, 0, &key, object, CHANGE_HSET);
    slot_release(slot);
}

/* Of more elements than are gathered as bytes: the reader makes the objects, and inserters insert
 * them or throw them away. */
Test(rdb_load, large_collections) {
    put_hash("large", 50000, FAR_AWAY);
    put_hash("small", 10, NEVER);
    put_hash("over", 50000, LONG_AGO);
    save_file();
    clear_all();
    cr_assert_eq(load_file(2, false, false), RDB_LOAD_DONE, "%s", notes);
    cr_assert_eq(hash_count(raw(0, "large")), 50000);
    cr_assert_eq(hash_count(raw(0, "small")), 10);
    cr_assert_null(raw(0, "over"));
    cr_assert_eq(atomic_load(&progress.keys_loaded), 2);
    cr_assert_eq(atomic_load(&progress.keys_expired), 1);
    struct element value;
    cr_assert(hash_get(raw(0, "large"), "field-49999", 11, &value));
    cr_assert(element_equals(&value, "ld-49999", 8));
    cr_assert_eq(object_expiry(raw(0, "large")), FAR_AWAY);
    cr_assert_eq(load_file(2, false, false), RDB_LOAD_FAILED, "they are there");
    cr_assert_not_null(strstr(notes, "# RDB has duplicated key"));
    for (long cut = file_size() - 1; cut > 0; cut -= 49999) {
        cr_assert_eq(truncate("dump.rdb", cut), 0);
        clear_all();
        cr_assert_eq(load_file(2, false, false), RDB_LOAD_FAILED, "%ld bytes", cut);
    }
    collection_thread_exit();
}

static void write_file(const char *body, size_t length) {
    FILE *file = fopen("dump.rdb", "w");
    fputs("REDIS0011", file);
    fwrite(body, 1, length, file);
    fwrite("\xff\0\0\0\0\0\0\0\0", 1, 9, file);
    fclose(file);
}

Test(rdb_load, empty_collections_are_left_out) {
    static const char body[] = "\xfe\0\4\5first\0\4\3one\1\1"
                               "f\1v\1\6second\0";
    write_file(body, sizeof body - 1);
    cr_assert_eq(load_file(2, false, false), RDB_LOAD_DONE, "%s", notes);
    cr_assert_eq(keyspace_count(keyspace, 0), 1);
    cr_assert_eq(hash_count(raw(0, "one")), 1);
    cr_assert_not_null(strstr(notes, "\nrdbLoadObject skipping empty key: first\n"), "%s", notes);
    cr_assert_not_null(strstr(notes, "\nrdbLoadObject skipping empty key: second\n"));
    cr_assert_not_null(strstr(notes, "keys loaded: 1, keys expired: 0, empty keys skipped: 2.\n"),
                       "%s", notes);
    collection_thread_exit();
}

Test(rdb_load, a_broken_collection_fails_the_load) {
    static const char body[] = "\xfe\0\4\3one\2\1"
                               "f\1v\1f\1w";
    write_file(body, sizeof body - 1);
    cr_assert_eq(load_file(2, false, false), RDB_LOAD_FAILED);
    cr_assert_not_null(strstr(notes, "-> Duplicate hash fields detected\n"), "%s", notes);
    collection_thread_exit();
}
