/* What Frida's loader brings in. That loader does not resolve initial-exec thread-local storage, so the agent itself must come by
 * the target's own dlopen: this does that, and has no thread-local storage. `data`: "start\nAGENT\nPLAN" or "stop\nAGENT\n". */
#include <dlfcn.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Whether the first thread stands in the hands of whoever brought us. In another space of process ids that is all that can be seen. */
static int first_thread_is_held(void)
{
    char path[64], text[1024] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    text[got > 0 ? got : 0] = 0;
    return strstr(text, "\nState:\tt") != NULL;
}

/* Frida goes on before it has let the first thread go, whose registers are still those of its own call: a signal of ours that came then
 * would be taken for that call's end. */
static void wait_until_free(void)
{
    for (int free_looks = 0, tries = 0; free_looks < 3 && tries < 2000; tries++) {
        struct timespec nap = {0, 1000000};
        free_looks = first_thread_is_held() ? 0 : free_looks + 1;
        nanosleep(&nap, NULL);
    }
}

__attribute__((visibility("default"))) void atf_boot(const char *data, int *stay, void *state)
{
    char text[3][4096];
    (void)state;
    for (int part = 0; part < 3; part++) {
        size_t n = 0;
        while (*data && *data != '\n' && n < sizeof text[part] - 1) text[part][n++] = *data++;
        text[part][n] = 0;
        if (*data == '\n') data++;
    }
    /* Else Frida would enter the process once more, through its first thread, to unmap what it brought: the thread would be lost if the
     * recorder ended meanwhile, and in another space of process ids Frida does not know when our thread has left that code. */
    if (stay) *stay = 1;
    wait_until_free();
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
