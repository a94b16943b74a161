/* CLIENT. */
#include "server/cmd_session.h"
