/* What differs between processors, in one place: each fills in the same names, in a directory of its own. */
#ifndef ATF_AGENT_ARCH_H
#define ATF_AGENT_ARCH_H
#if defined(__x86_64__)
#include "x86_64/arch.h"
#elif defined(__aarch64__)
#include "aarch64/arch.h"
#else
#error "there is no agent for this processor"
#endif
#endif
