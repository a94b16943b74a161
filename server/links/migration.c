/* See migration.h.
 *
 * Algorithm. The thread is one of those that run commands (exclusive_join): it passes command
 * boundaries between its steps and counts as asleep while it waits for the target. Tokens are taken
 * by trying again, since it can neither park nor own patience.
 *
 * Ordering. The slots stop serving under their tokens, before these are given back with the values
 * written down; they serve again under them, after what was confirmed is deleted and committed.
 *
 * Progress. A target that does not answer holds up its own keys and later MIGRATEs for the time
 * that the command names. While writes are paused the deletion waits, with the slots closed.
 * Reclamation: the last of the client and the thread frees a migration (background_work.h). */
#include "server/links/migration.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "replication/rdb_write.h"
#include "server/base/numbers.h"
#include "server/base/text.h"

#define ERROR_READ_ONLY "READONLY You can't write against a read only replica."

#define TRY_AGAIN_US  50
#define IDLE_LOOK_MS  1000
#define REPLY_BYTES   1024
#define COMMAND_BYTES (256 * 1024) /* are gathered before they are sent */

/* --- Tokens ----------------------------------------------------------------------------------- */

static void fail(struct migration *migration, const char *text) {
    migration->result = MIGRATION_FAILED;
    snprintf(migration->error, sizeof migration->error, "%s", text);
}

/* Asleep for others; nothing published is held. */
static void rest(unsigned us) {
    epoch_offline();
    exclusive_sleep_begin();
    nanosleep(&(struct timespec){.tv_nsec = us * 1000L}, NULL);
    exclusive_sleep_end();
    epoch_online();
}

static bool all_serve(const struct migrator *migrator, const struct migration *migration) {
    for (size_t i = 0; i < migration->slot_count; i++)
        if (!slot_is_serving(&migrator->keyspace->slots[migration->slots[i]]))
            return false;
    return true;
}

/* The tokens of all slots; with `serving` only if they serve. false: not until until_us, or the
 * process ends; none is held. */
static bool take(struct migrator *migrator, const struct migration *migration, bool serving,
                 uint64_t until_us) {
    struct slot *slots = migrator->keyspace->slots;
    for (;;) {
        uint32_t busy;
        exclusive_point();
        if ((!serving || !pause_is_on(migrator->pause)) &&
            slots_try_acquire(slots, migration->slots, migration->slot_count, &busy)) {
            if (!serving || all_serve(migrator, migration))
                return true;
            slots_release(slots, migration->slots, migration->slot_count);
        }
        if (atomic_load(&migrator->cancelled) || clock_monotonic_us() > until_us)
            return false;
        rest(TRY_AGAIN_US);
    }
}

/* --- Fence ------------------------------------------------------------------------------------ */

static void write_down(struct migrator *migrator, const struct migration *migration,
                       struct migration_key *key) {
    struct key hashed = key_make(key->key.data, key->key.length);
    const struct object *object =
        keyspace_find_write(&migrator->change, migration->source_database, &hashed);
    if (!object)
        return;
    int64_t expiry_ms = object_expiry(object);
    if (expiry_ms != OBJECT_NO_EXPIRY) {
        key->ttl_ms = expiry_ms - view_now_ms(&migrator->change.view);
        if (key->ttl_ms < 1)
            key->ttl_ms = 1;
    }
    struct rdb_writer writer;
    rdb_writer_init(&writer, NULL, false, true);
    rdb_write_payload(&writer, object);
    key->payload = rdb_writer_take(&writer, 1, &key->payload_length);
    rdb_writer_free(&writer);
}

/* Why nothing can be sent now; NULL. Under the tokens. */
static const char *refusal(const struct migrator *migrator, const struct migration *migration) {
    unsigned limits = service_limits(migrator->service);
    if (limits & SERVICE_LOADING) /* since it was queued */
        return "LOADING Redis is loading the dataset in memory";
    if (limits & SERVICE_READ_ONLY && !migration->copy)
        return ERROR_READ_ONLY;
    return NULL;
}

static void note_source(const struct migrator *migrator, struct migration *migration) {
    const struct keyspace *keyspace = migrator->keyspace;
    migration->physical = keyspace->database_map[migration->source_database];
    migration->clears = keyspace->clears[migration->physical];
    migration->mode = atomic_load(&keyspace->door.view.mode);
}

/* false: there is nothing to send; the slots serve as before. */
static bool fence(struct migrator *migrator, struct migration *migration) {
    struct slot *slots = migrator->keyspace->slots;
    if (!take(migrator, migration, true, clock_monotonic_us() + migration->timeout_ms * 1000)) {
        fail(migration, "TRYAGAIN The keys are in use, or their slot serves nobody at the moment");
        return false;
    }
    size_t found = 0;
    const char *refused = refusal(migrator, migration);
    if (refused) {
        fail(migration, refused);
    } else {
        note_source(migrator, migration);
        change_begin(&migrator->change);
        for (size_t i = 0; i < migration->key_count; i++) {
            write_down(migrator, migration, &migration->keys[i]);
            found += migration->keys[i].payload != NULL;
        }
        migration->number = change_commit(&migrator->change);
        if (found == 0)
            migration->result = MIGRATION_NO_KEY;
    }
    for (size_t i = 0; i < migration->slot_count && found > 0; i++)
        keyspace_serve_slot(migrator->keyspace, migration->slots[i], false);
    slots_release(slots, migration->slots, migration->slot_count);
    return found > 0;
}

/* --- Send ------------------------------------------------------------------------------------- */

struct sending {
    struct migrator *migrator;
    struct migration *migration;
    struct migration_target *target;
    bool select, writing; /* SELECT is sent; the failure was one of writing */
    size_t answers;       /* of keys that were read */
};

static void append_bulk(struct text *text, const void *data, size_t length) {
    text_append_format(text, "$%zu\r\n", length);
    text_append(text, data, length);
    text_append(text, "\r\n", 2);
}

static void append_beginning(struct text *text, const struct sending *sending) {
    const struct migration *migration = sending->migration;
    if (migration->password) {
        text_append_format(text, "*%d\r\n", migration->user ? 3 : 2);
        append_bulk(text, "AUTH", 4);
        if (migration->user)
            append_bulk(text, migration->user, migration->user_length);
        append_bulk(text, migration->password, migration->password_length);
    }
    if (sending->select) {
        char number[NUMBER_INT64_SIZE];
        text_append_string(text, "*2\r\n");
        append_bulk(text, "SELECT", 6);
        append_bulk(text, number, number_write_int64(number, migration->database));
    }
}

static void append_restore(struct text *text, const struct migration *migration,
                           const struct migration_key *key) {
    char number[NUMBER_INT64_SIZE];
    text_append_format(text, "*%d\r\n", migration->replace ? 5 : 4);
    if (migration->asking)
        append_bulk(text, "RESTORE-ASKING", 14);
    else
        append_bulk(text, "RESTORE", 7);
    append_bulk(text, key->key.data, key->key.length);
    append_bulk(text, number, number_write_int64(number, key->ttl_ms));
    append_bulk(text, key->payload, key->payload_length);
    if (migration->replace)
        append_bulk(text, "REPLACE", 7);
}

static bool flush(struct sending *sending, struct text *text, size_t least) {
    if (text->length < least)
        return true;
    bool sent = migration_target_send(&sending->migrator->targets, sending->target, text->data,
                                      text->length, sending->migration->timeout_ms);
    text_clear(text);
    return sent;
}

static bool send_all(struct sending *sending) {
    const struct migration *migration = sending->migration;
    struct text text = {0};
    append_beginning(&text, sending);
    bool sent = true;
    for (size_t i = 0; i < migration->key_count && sent; i++) {
        if (!migration->keys[i].payload)
            continue;
        append_restore(&text, migration, &migration->keys[i]);
        sent = flush(sending, &text, COMMAND_BYTES);
    }
    sent = sent && flush(sending, &text, 1);
    text_free(&text);
    return sent;
}

static bool read_answer(struct sending *sending, char *line) {
    return migration_target_read_line(&sending->migrator->targets, sending->target, line,
                                      REPLY_BYTES, sending->migration->timeout_ms);
}

/* The first error that the target told is the client's. */
static void target_error(struct sending *sending, const char *line) {
    struct migration *migration = sending->migration;
    sending->target->database = -1;
    if (migration->result == MIGRATION_FAILED)
        return;
    migration->result = MIGRATION_FAILED;
    snprintf(migration->error, sizeof migration->error,
             "ERR Target instance replied with error: %s", line + 1);
}

static bool read_answers(struct sending *sending) {
    struct migration *migration = sending->migration;
    char authentication[REPLY_BYTES] = "", selection[REPLY_BYTES] = "", line[REPLY_BYTES];
    if ((migration->password && !read_answer(sending, authentication)) ||
        (sending->select && !read_answer(sending, selection)))
        return false;
    for (size_t i = 0; i < migration->key_count; i++) {
        struct migration_key *key = &migration->keys[i];
        if (!key->payload)
            continue;
        if (!read_answer(sending, line))
            return false;
        sending->answers++;
        if (authentication[0] == '-')
            target_error(sending, authentication);
        else if (selection[0] == '-')
            target_error(sending, selection);
        else if (line[0] == '-')
            target_error(sending, line);
        else
            key->confirmed = true;
    }
    return true;
}

/* true: over, whichever way. false: the connection, an old one perhaps, is broken: once more. */
static bool send_once(struct migrator *migrator, struct migration *migration, bool last) {
    struct sending sending = {.migrator = migrator, .migration = migration};
    struct migration_targets *targets = &migrator->targets;
    sending.target =
        migration_target_open(targets, migration->host, migration->port, migration->timeout_ms);
    if (!sending.target) {
        fail(migration, "IOERR error or timeout connecting to the client");
        return true;
    }
    sending.select = sending.target->database != migration->database;
    sending.writing = !send_all(&sending);
    if (!sending.writing && read_answers(&sending)) {
        if (migration->result != MIGRATION_FAILED)
            sending.target->database = migration->database;
        return true;
    }
    migration_target_close(sending.target);
    if (sending.answers == 0 && !last && !targets->timed_out && !atomic_load(&migrator->cancelled))
        return false;
    if (migration->result != MIGRATION_FAILED)
        fail(migration, sending.writing ? "IOERR error or timeout writing to target instance"
                                        : "IOERR error or timeout reading to target instance");
    return true;
}

static void send_keys(struct migrator *migrator, struct migration *migration) {
    epoch_offline();
    exclusive_sleep_begin();
    if (!send_once(migrator, migration, false))
        send_once(migrator, migration, true);
    exclusive_sleep_end();
    epoch_online();
}

/* --- Finish ----------------------------------------------------------------------------------- */

static void delete_confirmed(struct migrator *migrator, struct migration *migration) {
    struct change *change = &migrator->change;
    unsigned database = migrator->keyspace->database_map_inverse[migration->physical];
    struct effect_argument *effect =
        memory_alloc((migration->key_count + 1) * sizeof(struct effect_argument));
    size_t count = 1;
    effect[0] = (struct effect_argument){"DEL", 3};
    change_begin(change);
    for (size_t i = 0; i < migration->key_count; i++) {
        const struct migration_key *key = &migration->keys[i];
        struct key hashed = key_make(key->key.data, key->key.length);
        if (key->confirmed && keyspace_delete(change, database, &hashed, CHANGE_DEL))
            effect[count++] = (struct effect_argument){key->key.data, key->key.length};
    }
    if (count > 1)
        change_append(change, database, effect, count);
    uint64_t number = change_commit(change);
    if (number != 0)
        migration->number = number;
    memory_free(effect);
}

/* Under the tokens. What was sent is still what is here, unless the database was emptied meanwhile,
 * which deletes more than we would. */
static void delete_sent(struct migrator *migrator, struct migration *migration) {
    const struct keyspace *keyspace = migrator->keyspace;
    if (service_limits(migrator->service) & SERVICE_READ_ONLY ||
        atomic_load(&keyspace->door.view.mode) != migration->mode)
        fail(migration, ERROR_READ_ONLY);
    else if (keyspace->clears[migration->physical] == migration->clears)
        delete_confirmed(migrator, migration);
}

/* Without end: nobody but this thread lets the slots serve again. Only the process's end is
 * stronger. */
static void finish(struct migrator *migrator, struct migration *migration) {
    struct slot *slots = migrator->keyspace->slots;
    bool delete = !migration->copy;
    for (;;) {
        if (!take(migrator, migration, false, UINT64_MAX))
            return;
        if (!delete || !pause_is_on(migrator->pause))
            break;
        slots_release(slots, migration->slots, migration->slot_count);
        rest(TRY_AGAIN_US);
    }
    if (delete)
        delete_sent(migrator, migration);
    for (size_t i = 0; i < migration->slot_count; i++)
        keyspace_serve_slot(migrator->keyspace, migration->slots[i], true);
    slots_release(slots, migration->slots, migration->slot_count);
}

static void migrate(struct migrator *migrator, struct migration *migration) {
    if (!fence(migrator, migration))
        return;
    send_keys(migrator, migration);
    finish(migrator, migration);
    epoch_quiescent();
}

/* --- The thread ------------------------------------------------------------------------------- */

/* The next one; NULL after a second without. */
static struct migration *next(struct migrator *migrator, bool *stop) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += IDLE_LOOK_MS / 1000;
    pthread_mutex_lock(&migrator->lock);
    if (!migrator->first && !migrator->stopping)
        pthread_cond_timedwait(&migrator->wanted, &migrator->lock, &until);
    struct migration *migration = migrator->first;
    if (migration) {
        migrator->first = migration->next;
        if (!migrator->first)
            migrator->last = NULL;
    }
    *stop = migrator->stopping && !migration;
    pthread_mutex_unlock(&migrator->lock);
    return migration;
}

static void *migrator_main(void *context) {
    struct migrator *migrator = context;
    pthread_setname_np(pthread_self(), "migrate");
    keyspace_thread_set(migrator->thread_number);
    epoch_reader_enter();
    exclusive_join();
    for (bool stop = false; !stop;) {
        epoch_offline();
        exclusive_sleep_begin();
        struct migration *migration = next(migrator, &stop);
        exclusive_sleep_end();
        epoch_online();
        if (migration) {
            if (!atomic_load(&migrator->cancelled))
                migrate(migrator, migration);
            else
                fail(migration, "ERR the server is shutting down");
            background_work_run(&migration->work);
        }
        migration_targets_close_idle(&migrator->targets);
        epoch_reclaim_for(1000);
    }
    migration_targets_close(&migrator->targets);
    exclusive_leave();
    epoch_reader_leave();
    return NULL;
}

/* --- From outside ----------------------------------------------------------------------------- */

void migrator_init(struct migrator *migrator, struct keyspace *keyspace,
                   const struct service *service, const struct pause *pause,
                   unsigned thread_number) {
    migrator->keyspace = keyspace;
    migrator->service = service;
    migrator->pause = pause;
    migrator->thread_number = thread_number;
    pthread_mutex_init(&migrator->lock, NULL);
    pthread_cond_init(&migrator->wanted, NULL);
    migrator->targets.cancelled = &migrator->cancelled;
    change_init(&migrator->change, &keyspace->door, VIEW_PRIMARY);
}

void migrator_stop(struct migrator *migrator) {
    pthread_mutex_lock(&migrator->lock);
    bool started = migrator->started;
    migrator->stopping = true;
    atomic_store(&migrator->cancelled, true);
    pthread_cond_signal(&migrator->wanted);
    pthread_mutex_unlock(&migrator->lock);
    if (started)
        pthread_join(migrator->thread, NULL);
    change_destroy(&migrator->change);
}

static void destroy(struct background_work *work) {
    struct migration *migration = (struct migration *)(void *)work;
    for (size_t i = 0; i < migration->key_count; i++) {
        memory_free(migration->keys[i].payload);
        memory_free((char *)migration->keys[i].key.data);
    }
    memory_free(migration->keys);
    memory_free(migration->slots);
    memory_free(migration->host);
    memory_free(migration->port);
    memory_free(migration->user);
    memory_free(migration->password);
    memory_free(migration);
}

static int compare_slots(const void *a, const void *b) {
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

static void list_slots(struct migration *migration) {
    uint16_t *slots = memory_alloc(migration->key_count * sizeof *slots);
    for (size_t i = 0; i < migration->key_count; i++)
        slots[i] =
            (uint16_t)slot_of_key(migration->keys[i].key.data, migration->keys[i].key.length);
    qsort(slots, migration->key_count, sizeof *slots, compare_slots);
    size_t unique = 0;
    for (size_t i = 0; i < migration->key_count; i++)
        if (i == 0 || slots[i] != slots[unique - 1])
            slots[unique++] = slots[i];
    migration->slots = slots;
    migration->slot_count = unique;
}

/* false: there is no thread. */
static bool submit(struct migrator *migrator, struct migration *migration) {
    pthread_mutex_lock(&migrator->lock);
    if (!migrator->started)
        migrator->started = pthread_create(&migrator->thread, NULL, migrator_main, migrator) == 0;
    bool started = migrator->started;
    if (started) {
        if (migrator->last)
            migrator->last->next = migration;
        else
            migrator->first = migration;
        migrator->last = migration;
        pthread_cond_signal(&migrator->wanted);
    }
    pthread_mutex_unlock(&migrator->lock);
    return started;
}

struct unfinished *migration_begin(struct migrator *migrator, struct migration *migration) {
    list_slots(migration);
    migration->work.destroy = destroy;
    struct unfinished *unfinished = background_work_prepare(&migration->work);
    if (!submit(migrator, migration)) {
        fail(migration, "ERR there is no thread for MIGRATE");
        background_work_run(&migration->work);
    }
    return unfinished;
}
