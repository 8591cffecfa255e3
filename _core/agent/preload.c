/* LD_PRELOAD: as if the program had been started without us. The environment is changed where it stands: a program may have functions
 * of its own by the names of getenv and unsetenv (bash has), and what it then passes to its children would bring us into them. */
#include "agent.h"
#include <string.h>

extern char **environ;
ATF_PUBLIC int atf_agent_start(const char *path);

static char *value_of(char *entry, const char *name)
{
    while (*name && *entry == *name) entry++, name++;
    return !*name && *entry == '=' ? entry + 1 : NULL;
}

/* Takes the first out of a list of libraries, which is us. 0: it was alone; what the program has of its own may be an empty list. */
static int without_first(char *list)
{
    char *rest = list;
    while (*rest && *rest != ':' && *rest != ' ') rest++;
    int more = *rest != 0;
    if (more) rest++;
    for (char *to = list; (*to = *rest); to++) rest++;
    return more;
}

__attribute__((constructor)) static void preloaded(void)
{
    char *plan = NULL;
    for (char **e = environ; e && *e; e++)
        if (value_of(*e, "ATF_AGENT")) plan = value_of(*e, "ATF_AGENT");
    if (!plan) return;
    char **to = environ;
    for (char **from = environ; *from; from++) {
        char *list = value_of(*from, "LD_PRELOAD");
        if (value_of(*from, "ATF_AGENT") || (list && !without_first(list))) continue;
        *to++ = *from;
    }
    *to = NULL;
    /* Its text stays where the kernel put it. */
    if (*plan == '@') atf_ask(plan + 1);
    else atf_agent_start(plan);
}
