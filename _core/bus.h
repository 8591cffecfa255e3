/* Turns a read of a mapped page that is gone into zeros and a flag. See bus.c. */
#ifndef ATF_BUS_H
#define ATF_BUS_H

#include "mappings.h"

int atf_busguard_install(atf_mappings *mappings); /* 0, or errno; a second call does nothing */
uint64_t atf_busguard_hits(void);                 /* how often the handler has helped since */

#endif
