/* What the files that read and rewrite configurations need of config.c besides config.h. */
#ifndef SLOTWISE_SERVER_CONFIG_PRIVATE_H
#define SLOTWISE_SERVER_CONFIG_PRIVATE_H

#include "server/config/config.h"

/* A snapshot with the defaults. */
struct config *config_new(void);
void config_publish(struct config *next);

/* After any change: pulls values into range as Redis does silently. */
void config_normalize(struct config *config);
/* The snapshot that holds the defaults. */
const struct config *config_initial(void);
/* 0666 without what the umask of the process takes away. */
unsigned config_file_mode(void);

#endif
