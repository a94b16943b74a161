/* What anybody may ask of the process as a whole; main.c sets it up and waits for its end. */
#include "server/clients/server.h"

#include "server/clients/loop.h"

void server_request_shutdown(struct server *server) {
    atomic_store(&server->stopping, true);
    for (unsigned i = 0; i < server->loop_count; i++)
        loop_wake(server->loops[i]);
    sem_post(&server->wake_watchdog);
}
