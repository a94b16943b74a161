/* Loading the RDB file, at start and by DEBUG RELOAD. */
#ifndef SLOTWISE_SERVER_LOADING_H
#define SLOTWISE_SERVER_LOADING_H

#include "server/persistence/persistence.h"

/* At start, before the workers: whether there is a file. From then on until it is loaded clients
 * get -LOADING. threads: how many insert; thread_number: the first of their numbers. */
bool loading_prepare(struct persistence *persistence, unsigned threads, unsigned thread_number);
/* Loads what was prepared on a thread of its own, which calls expired, and done at the end. 0 or a
 * negative errno. */
int loading_start(struct persistence *persistence, loading_expired *expired, loading_done *done,
                  void *context);
/* Gives up what is not loaded yet, and waits for the thread. */
void loading_end(struct persistence *persistence);

/* In an exclusive section: the file into the keyspace, beside what is there. replace: keys that are
 * there give way, else they are errors. */
enum rdb_load_result loading_run(struct persistence *persistence, unsigned threads,
                                 unsigned thread_number, bool replace);

#endif
