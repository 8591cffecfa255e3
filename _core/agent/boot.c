/* What Frida's loader brings in. That loader does not resolve initial-exec thread-local storage, so the agent itself must come by
 * the target's own dlopen: this does that, and has no thread-local storage. `data`: "start\nAGENT\nPLAN" or "stop\nAGENT\n". */
#include <dlfcn.h>
#include <stddef.h>

__attribute__((visibility("default"))) void atf_boot(const char *data, int *stay, void *state)
{
    char text[3][4096];
    (void)state;
    if (stay) *stay = 0;
    for (int part = 0; part < 3; part++) {
        size_t n = 0;
        while (*data && *data != '\n' && n < sizeof text[part] - 1) text[part][n++] = *data++;
        text[part][n] = 0;
        if (*data == '\n') data++;
    }
    void *agent = dlopen("libatf_agent.so", RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD); /* of an earlier time, perhaps another copy: never two */
    if (!agent) agent = dlopen(text[1], RTLD_NOW | RTLD_LOCAL);
    if (!agent) return;
    if (text[0][2] == 'a') { /* start */
        int (*start)(const char *) = (int (*)(const char *))dlsym(agent, "atf_agent_start");
        if (start) start(text[2]);
    } else {
        int (*stop)(void) = (int (*)(void))dlsym(agent, "atf_agent_stop");
        if (stop) stop();
    }
}
