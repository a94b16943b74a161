/* What anybody may ask of the process as a whole; main.c sets it up and waits for its end. */
#include "server/server.h"

#include "server/worker.h"

void server_request_shutdown(struct server *server) {
    atomic_store(&server->stopping, true);
    for (unsigned i = 0; i < server->worker_count; i++)
        worker_wake(server->workers[i]);
}
