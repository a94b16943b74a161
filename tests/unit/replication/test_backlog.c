/* The backlog against a model: whatever is appended, read, compressed and resized in whatever
 * order, readers see the stream, and memory stays within its bounds. */
#include <stdlib.h>
#include <string.h>

#include "engine/memory.h"
#include "tests/unit/replication/backlog_model.h"

#define KB ((size_t)1024)
#define MB (1024 * KB)

static struct backlog_statistics figures(const struct model *model) {
    struct backlog_statistics statistics;
    backlog_get_statistics(model->backlog, &statistics);
    return statistics;
}

/* --- Random histories ------------------------------------------------------------------------- */

#define READERS 5
#define JOBS    4

struct history {
    struct model model;
    struct reader readers[READERS];
    struct backlog_job *jobs[JOBS];
    uint64_t state;
    size_t opened[2], refused;
};

static uint64_t below(struct history *h, uint64_t limit) {
    return random_below(&h->state, limit);
}

static void append_something(struct history *h) {
    static char entry[200000];
    size_t length = any_entry(&h->state, entry, below(h, 20) ? 20000 : sizeof entry);
    if (below(h, 40) == 0) { /* longer than frames and small blocks */
        length = 20000 + below(h, sizeof entry - 20000);
        for (size_t i = 0; i < length; i++)
            entry[i] = (char)('a' + i / 64 % 8 + below(h, 2));
    }
    if (h->model.length + length > h->model.capacity)
        return;
    for (size_t done = 0, piece; done < length; done += piece) {
        piece = below(h, 3) ? length - done : 1 + below(h, length - done);
        model_append(&h->model, entry + done, piece, done + piece < length);
        if (below(h, 30) == 0)
            backlog_flush(h->model.backlog);
    }
}

static void open_or_close(struct history *h, struct reader *reader) {
    if (reader->cursor != NULL) {
        if (below(h, 4) == 0)
            reader_end(reader);
        return;
    }
    uint64_t first = backlog_first_offset(h->model.backlog);
    uint64_t end = backlog_end_offset(h->model.backlog);
    uint64_t offset = below(h, 3) == 0   ? first
                      : below(h, 3) == 0 ? end
                      : below(h, 9) == 0 ? end + 1 + below(h, 10)
                      : below(h, 9) == 0 ? first - 1 - below(h, 10)
                                         : first + below(h, end - first + 1);
    enum backlog_kind kind = below(h, 3) ? BACKLOG_FRAMES : BACKLOG_PLAIN;
    bool there = offset >= first && offset <= end;
    cr_assert_eq(reader_begin(reader, &h->model, kind, offset), there);
    h->opened[kind] += there;
    h->refused += !there;
}

static void read_something(struct history *h, struct reader *reader) {
    if (reader->cursor == NULL)
        return;
    size_t bytes = 0;
    for (int i = 0; i < reader->shown; i++)
        bytes += reader->pieces[i].iov_len;
    if (bytes > 0) /* shown some calls ago */
        reader_take(reader, below(h, 2) ? bytes : below(h, bytes + 1));
    else
        reader_look(reader, 1 + (int)below(h, PIECES));
}

static void work_on_jobs(struct history *h) {
    struct backlog_job **job = &h->jobs[below(h, JOBS)];
    if (*job == NULL) {
        *job = backlog_job_take(h->model.backlog);
        return;
    }
    if (below(h, 8))
        backlog_job_run(*job);
    backlog_job_give(*job);
    *job = NULL;
}

static void resize(struct history *h) {
    size_t size = (size_t)16 * 1024 << below(h, 9);
    backlog_resize(h->model.backlog, size);
    if (h->model.guaranteed > size)
        h->model.guaranteed = size;
    while (backlog_trim(h->model.backlog)) {
    }
}

static void step(struct history *h) {
    unsigned choice = (unsigned)below(h, 100);
    if (choice < 40)
        append_something(h);
    else if (choice < 50)
        backlog_flush(h->model.backlog);
    else if (choice < 58)
        open_or_close(h, &h->readers[below(h, READERS)]);
    else if (choice < 90)
        read_something(h, &h->readers[below(h, READERS)]);
    else if (choice < 97)
        work_on_jobs(h);
    else if (choice == 97 && below(h, 10) == 0)
        resize(h);
}

/* How many readers were let in, by kind, and how many not. */
struct doors {
    size_t opened[2], refused;
};

static void random_history(uint64_t seed, int steps, struct doors *doors) {
    struct history h = {.state = seed};
    model_begin(&h.model, (size_t)16 * 1024 << below(&h, 7), 64 * MB);
    for (int i = 0; i < steps; i++) {
        step(&h);
        model_check(&h.model);
    }
    for (int i = 0; i < JOBS; i++)
        if (h.jobs[i] != NULL)
            backlog_job_give(h.jobs[i]);
    backlog_flush(h.model.backlog);
    for (int i = 0; i < READERS; i++)
        if (h.readers[i].cursor != NULL) {
            reader_drain(&h.readers[i]);
            cr_assert_eq(h.readers[i].offset, FIRST_OFFSET + h.model.length);
            reader_end(&h.readers[i]);
        }
    while (backlog_trim(h.model.backlog)) {
    }
    model_check(&h.model);
    cr_assert_eq(figures(&h.model).pinned_bytes, 0);
    doors->opened[BACKLOG_PLAIN] += h.opened[BACKLOG_PLAIN];
    doors->opened[BACKLOG_FRAMES] += h.opened[BACKLOG_FRAMES];
    doors->refused += h.refused;
    model_end(&h.model);
}

Test(backlog, random_histories_agree_with_the_model, .timeout = 600) {
    struct doors doors = {0};
    for (uint64_t seed = 1; seed <= 60; seed++)
        random_history(seed, 3000, &doors);
    cr_assert(doors.opened[BACKLOG_PLAIN] > 60 && doors.opened[BACKLOG_FRAMES] > 60 &&
              doors.refused > 60);
}

/* --- One property each ------------------------------------------------------------------------ */

Test(backlog, it_bridges_its_size_and_compressed_more) {
    struct model model;
    uint64_t state = 1;
    model_begin(&model, MB, 16 * MB);
    uint64_t before = memory_used_bytes();
    model_append_noise(&model, 4 * MB, &state);
    cr_assert(figures(&model).retained_plain_bytes >= MB);
    for (size_t i = 0; i < 8 * MB / (64 * KB); i++) {
        model_append_json(&model, 64 * KB, &state);
        compress_all(model.backlog);
    }
    model_check(&model);
    struct backlog_statistics now = figures(&model);
    cr_log_info("%llu bytes bridge %llu", (unsigned long long)now.retained_bytes,
                (unsigned long long)now.retained_plain_bytes);
    cr_assert_gt(now.retained_plain_bytes, 2 * MB);
    cr_assert_leq(now.retained_bytes, MB + 2 * 64 * KB);
    cr_assert_eq(now.plain_blocks, 0);
    uint64_t used = memory_used_bytes() - before;
    cr_assert_leq(used, MB + (2 + BACKLOG_SPARES) * 64 * KB + 64 * KB, "%llu really",
                  (unsigned long long)used);
    model_end(&model);
}

Test(backlog, ten_replicas_cost_one_compression) {
    struct model model;
    struct reader readers[10];
    uint64_t state = 2;
    model_begin(&model, 4 * MB, 16 * MB);
    for (int i = 0; i < 10; i++)
        cr_assert(reader_begin(&readers[i], &model, BACKLOG_FRAMES, FIRST_OFFSET));
    for (int round = 0; round < 300; round++) {
        model_append_json(&model, 20 * KB, &state);
        backlog_flush(model.backlog);
        for (int i = 0; i < 10; i++)
            if (i < 5 || round % (7 * i) == 0)
                reader_drain(&readers[i]);
    }
    for (int i = 0; i < 10; i++) {
        reader_drain(&readers[i]);
        cr_assert_eq(readers[i].offset, FIRST_OFFSET + model.length);
        reader_end(&readers[i]);
    }
    cr_assert_eq(figures(&model).frames_plain_bytes, model.length);
    cr_assert_eq(figures(&model).frames_alone, 0);
    model_end(&model);
}

Test(backlog, a_replica_that_resumes_anywhere_soon_shares_the_frames_of_all) {
    struct model model;
    struct reader live, resumed;
    uint64_t state = 3;
    model_begin(&model, 4 * MB, 4 * MB);
    cr_assert(reader_begin(&live, &model, BACKLOG_FRAMES, FIRST_OFFSET));
    for (int round = 0; round < 60; round++) {
        model_append_json(&model, 30 * KB, &state);
        backlog_flush(model.backlog);
        reader_drain(&live);
        uint64_t offset = backlog_end_offset(model.backlog) - random_below(&state, 20 * KB);
        cr_assert(reader_begin(&resumed, &model, BACKLOG_FRAMES, offset));
        reader_drain(&resumed);
        model_append_json(&model, KB, &state);
        backlog_flush(model.backlog);
        uint64_t alone = figures(&model).frames_alone;
        cr_assert_gt(reader_look(&resumed, PIECES), 0);
        cr_assert_eq(figures(&model).frames_alone, alone);
        reader_drain(&resumed);
        cr_assert_eq(resumed.offset, FIRST_OFFSET + model.length);
        reader_drain(&live);
        reader_end(&resumed);
        model_check(&model);
    }
    cr_assert_gt(figures(&model).frames_alone, 0);
    reader_end(&live);
    model_end(&model);
}

Test(backlog, frames_for_one_alone_that_end_within_an_entry_say_so) {
    struct model model;
    struct reader live, resumed;
    uint64_t state = 11;
    char half[3000];
    memset(half, 'h', sizeof half);
    model_begin(&model, 4 * MB, MB);
    cr_assert(reader_begin(&live, &model, BACKLOG_FRAMES, FIRST_OFFSET));
    model_append_json(&model, 4 * KB, &state);
    model_append(&model, half, sizeof half, true);
    backlog_flush(model.backlog);
    reader_drain(&live); /* the shared frames end within the entry */
    model_append(&model, half, sizeof half, false);
    cr_assert(reader_begin(&resumed, &model, BACKLOG_FRAMES, FIRST_OFFSET + 1000));
    reader_drain(&resumed);
    cr_assert_eq(resumed.offset, live.offset);
    model_append_json(&model, 30 * KB, &state);
    backlog_flush(model.backlog);
    reader_drain(&resumed);
    cr_assert_eq(resumed.offset, FIRST_OFFSET + model.length);
    reader_end(&resumed);
    reader_end(&live);
    model_end(&model);
}

Test(backlog, what_a_slow_replica_keeps_beyond_the_retained_part_is_counted_compressed) {
    struct model model;
    struct reader slow;
    uint64_t state = 4;
    model_begin(&model, 256 * KB, 16 * MB);
    cr_assert(reader_begin(&slow, &model, BACKLOG_FRAMES, FIRST_OFFSET));
    cr_assert_eq(backlog_cursor_pinned_bytes(slow.cursor), 0);
    model_append_json(&model, 8 * MB, &state);
    uint64_t plain = backlog_cursor_pinned_bytes(slow.cursor);
    cr_assert(plain > 7 * MB && plain == figures(&model).pinned_bytes);
    compress_all(model.backlog);
    uint64_t compressed = backlog_cursor_pinned_bytes(slow.cursor);
    cr_assert(compressed < plain * 6 / 10 && compressed == figures(&model).pinned_bytes);
    cr_assert_eq(backlog_first_offset(model.backlog), FIRST_OFFSET, "what is there is offered");
    for (size_t bytes; (bytes = reader_look(&slow, 1)) > 0; reader_take(&slow, bytes)) {
        cr_assert_leq(backlog_cursor_pinned_bytes(slow.cursor), compressed);
        compressed = backlog_cursor_pinned_bytes(slow.cursor);
    }
    cr_assert_eq(compressed, 0);
    while (backlog_trim(model.backlog)) {
    }
    cr_assert_eq(figures(&model).pinned_bytes, 0);
    cr_assert_gt(backlog_first_offset(model.backlog), FIRST_OFFSET + 7 * MB);
    reader_end(&slow);
    model_end(&model);
}

Test(backlog, plain_readers_of_compressed_blocks_share_one_copy_while_they_are_in_it) {
    struct model model;
    struct reader readers[3];
    uint64_t state = 5;
    model_begin(&model, MB, 8 * MB);
    model_append_json(&model, 2 * MB, &state);
    compress_all(model.backlog);
    uint64_t idle = figures(&model).cached_bytes;
    for (int i = 0; i < 3; i++) {
        uint64_t offset = backlog_first_offset(model.backlog) + (uint64_t)i * 1000;
        cr_assert(
            reader_begin(&readers[i], &model, i == 2 ? BACKLOG_FRAMES : BACKLOG_PLAIN, offset));
        cr_assert_gt(reader_look(&readers[i], PIECES), 0);
    }
    cr_assert_leq(figures(&model).cached_bytes, idle + 64 * KB);
    backlog_flush(model.backlog);
    for (int i = 0; i < 3; i++) {
        reader_drain(&readers[i]);
        cr_assert_eq(readers[i].offset, FIRST_OFFSET + model.length);
        reader_end(&readers[i]);
    }
    model_check(&model);
    cr_assert_eq(model.backlog->restored_bytes, 0);
    model_end(&model);
}

Test(backlog, blocks_that_were_flushed_in_tiny_frames_are_compressed_again_as_a_whole) {
    struct model model;
    struct reader live;
    char entry[64];
    model_begin(&model, MB, 4 * MB);
    cr_assert(reader_begin(&live, &model, BACKLOG_FRAMES, FIRST_OFFSET));
    for (int i = 0; i < 30000; i++) {
        int length = sprintf(entry, "*2\r\n$4\r\nINCR\r\n$9\r\ncount:%03d\r\n", i * 37 % 1000);
        model_append(&model, entry, (size_t)length, false);
        backlog_flush(model.backlog);
        reader_drain(&live);
    }
    model_check(&model);
    struct backlog_statistics fine = figures(&model);
    cr_assert_gt(fine.plain_blocks, 10);
    compress_all(model.backlog);
    struct backlog_statistics coarse = figures(&model);
    cr_assert_eq(coarse.plain_blocks, 0);
    cr_assert_lt(coarse.retained_bytes - model.backlog->last->cost,
                 (fine.retained_bytes - model.backlog->last->cost) / 3);
    struct reader late;
    cr_assert(reader_begin(&late, &model, BACKLOG_FRAMES, FIRST_OFFSET));
    reader_drain(&late);
    cr_assert_eq(late.offset, FIRST_OFFSET + model.length);
    reader_end(&late);
    reader_end(&live);
    model_end(&model);
}

Test(backlog, an_entry_longer_than_the_backlog_is_kept_for_who_reads_it) {
    struct model model;
    struct reader frames, plain;
    uint64_t state = 6;
    model_begin(&model, 256 * KB, 8 * MB);
    cr_assert(reader_begin(&frames, &model, BACKLOG_FRAMES, FIRST_OFFSET));
    cr_assert(reader_begin(&plain, &model, BACKLOG_PLAIN, FIRST_OFFSET));
    char *giant = malloc(3 * MB);
    for (size_t i = 0; i < 3 * MB; i++)
        giant[i] = (char)('a' + random_below(&state, 4));
    model_append(&model, giant, 3 * MB, false);
    model_append_json(&model, 10 * KB, &state);
    backlog_flush(model.backlog);
    reader_drain(&frames);
    reader_drain(&plain);
    cr_assert(frames.offset == FIRST_OFFSET + model.length && plain.offset == frames.offset);
    reader_end(&frames);
    reader_end(&plain);
    free(giant);
    model_end(&model);
}

Test(backlog, who_waits_for_a_job_reads_on_when_it_is_given_back_done_or_not) {
    for (int run = 0; run < 2; run++) {
        struct model model;
        struct reader reader;
        uint64_t state = 7;
        model_begin(&model, 256 * KB, MB);
        model_append_json(&model, 20 * KB, &state);
        struct backlog_job *job = backlog_job_take(model.backlog);
        cr_assert(job != NULL && backlog_job_take(model.backlog) == NULL);
        cr_assert(reader_begin(&reader, &model, BACKLOG_FRAMES, FIRST_OFFSET));
        cr_assert_eq(reader_look(&reader, PIECES), 0);
        if (run)
            backlog_job_run(job);
        backlog_job_give(job);
        backlog_flush(model.backlog);
        reader_drain(&reader);
        cr_assert_eq(reader.offset, FIRST_OFFSET + model.length);
        model_check(&model);
        reader_end(&reader);
        model_end(&model);
    }
}

Test(backlog, a_job_outlives_its_block_and_its_backlog) {
    struct model model;
    uint64_t state = 8;
    model_begin(&model, 16 * KB, 4 * MB);
    model_append_json(&model, 20 * KB, &state);
    struct backlog_job *block_gone = backlog_job_take(model.backlog);
    model_append_json(&model, MB, &state);
    model_check(&model);
    struct backlog_job *backlog_gone = backlog_job_take(model.backlog);
    struct backlog_job *not_run = backlog_job_take(model.backlog);
    cr_assert(block_gone && backlog_gone && not_run == NULL);
    backlog_job_run(block_gone);
    backlog_job_give(block_gone);
    model_end(&model);
    backlog_job_run(backlog_gone);
    backlog_job_give(backlog_gone);
}

Test(backlog, jobs_keep_away_from_readers_of_frames_and_begin_with_the_newest_block) {
    struct model model;
    struct reader frames, plain;
    uint64_t state = 9;
    model_begin(&model, 256 * KB, MB);
    model_append_json(&model, 90 * KB, &state); /* five sealed blocks, and the open one */
    cr_assert(reader_begin(&frames, &model, BACKLOG_FRAMES, FIRST_OFFSET + 17 * KB));
    cr_assert(reader_begin(&plain, &model, BACKLOG_PLAIN, FIRST_OFFSET + 65 * KB));
    uint64_t expected[] = {4, 3, 0};
    for (int i = 0; i < 3; i++) {
        struct backlog_job *job = backlog_job_take(model.backlog);
        cr_assert(job != NULL);
        cr_assert_eq(block_job_block(job)->sequence, expected[i]);
        backlog_job_run(job);
        backlog_job_give(job);
        model_check(&model);
    }
    cr_assert(backlog_job_take(model.backlog) == NULL, "the reader makes these two itself");
    reader_end(&frames);
    compress_all(model.backlog);
    cr_assert_eq(model.backlog->plain_blocks, 0, "nobody reads them any more");
    reader_drain(&plain);
    cr_assert_eq(plain.offset, FIRST_OFFSET + model.length);
    reader_end(&plain);
    model_end(&model);
}

Test(backlog, shrinking_lets_go_step_by_step_and_at_once_of_what_counts) {
    struct model model;
    uint64_t state = 10;
    model_begin(&model, 4 * MB, 8 * MB);
    model_append_noise(&model, 5 * MB, &state);
    backlog_resize(model.backlog, 64 * KB);
    model.guaranteed = 64 * KB;
    cr_assert_leq(figures(&model).retained_bytes, 64 * KB + 2 * 256 * KB + 16 * KB);
    while (backlog_trim(model.backlog))
        model_check(&model);
    cr_assert_eq(figures(&model).pinned_bytes, 0);
    model_append_noise(&model, 300 * KB, &state);
    model_check(&model);
    cr_assert_eq(model.backlog->last->capacity, 16 * KB);
    cr_assert_leq(figures(&model).retained_bytes, 64 * KB + 3 * 16 * KB);
    model_end(&model);
}
