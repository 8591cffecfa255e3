/* An executed program of a followed process asks the recorder what is to be done with it, in the agent's constructor: by a file
 * PID-START.ask in the session's directory, answered by PID-START.answer. It waits for a bounded time, and only while the
 * recorder is there; then it goes on as if nobody had asked. Runs before the program has threads. */
#include "agent.h"
#include "family.h"
#include "text.h"
#include "hooks.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>

ATF_PUBLIC int atf_agent_start(const char *path);

static char name[64], answer_name[64], answer_path[2200], answer[8192];

/* The value of a key in the answer, ended by a zero byte; NULL: it has none. Lines are key=value. */
static char *value_of(char *text, const char *key)
{
    size_t n = strlen(key);
    for (char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, key, n) == 0 && line[n] == '=') {
            char *value = strndup(line + n + 1, strcspn(line + n + 1, "\n"));
            return value; /* kept for the process's life: there are three of them at most */
        }
    return NULL;
}

static int wait_for_answer(uint32_t wait_ms)
{
    uint64_t start = atf_clock_ns(CLOCK_MONOTONIC), nap_ns = 100000;
    for (;;) {
        long n = atf_read_whole(answer_path, answer, sizeof answer - 1);
        if (n > 0) {
            answer[n] = 0;
            atf_family_forget(answer_name);
            return 1;
        }
        if (atf_clock_ns(CLOCK_MONOTONIC) - start > wait_ms * 1000000ull || atf_family_state() != ATF_SESSION_OPEN) return 0;
        struct timespec nap = {0, (long)nap_ns};
        atf_call(SYS_nanosleep, (long)&nap, 0, 0, 0, 0, 0);
        if (nap_ns < 2000000) nap_ns += nap_ns / 4;
    }
}

static int ask(atf_family *f)
{
    static char content[64];
    uint64_t pid = (uint64_t)atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0), start = atf_process_start((uint32_t)pid);
    atf_text t = atf_text_in(content, sizeof content), q = atf_text_in(name, sizeof name), a = atf_text_in(answer_name, sizeof answer_name);
    atf_text p = atf_text_in(answer_path, sizeof answer_path);
    atf_text_put(&t, "pid=");
    atf_text_number(&t, pid);
    atf_text_put(&t, "\nstart=");
    atf_text_number(&t, start);
    atf_text_char(&t, '\n');
    for (int i = 0; i < 2; i++) {
        atf_text *to = i ? &a : &q;
        atf_text_number(to, pid);
        atf_text_char(to, '-');
        atf_text_number(to, start);
        atf_text_put(to, i ? ".answer" : ".ask");
    }
    atf_text_put(&p, atf_family_session());
    atf_text_char(&p, '/');
    atf_text_put(&p, answer_name);
    if (atf_family_state() != ATF_SESSION_OPEN || !atf_family_write(name, &t)) return 0;
    if (atf_process_start(f->recorder_pid) == f->recorder_start) atf_call(SYS_kill, f->recorder_pid, SIGCHLD, 0, 0, 0, 0); /* it looks at once */
    if (wait_for_answer(f->wait_ms)) return 1;
    /* The recorder takes the question away before it begins: then the answer is not far. */
    if (!atf_family_forget(name) && wait_for_answer(f->wait_ms / 3)) return 1;
    if (atf_family_state() == ATF_SESSION_OPEN) atf_add_acq_rel32(&f->late, 1);
    return 0;
}

/* Python follows by its environment: what starts it there is added to what it has. */
static void become_python(const char *session, const char *path)
{
    const char *before = getenv("PYTHONPATH");
    if (before && strncmp(before, path, strlen(path)) == 0 && getenv("ATF_SESSION")) return; /* it was told before */
    char *both = malloc(strlen(path) + (before ? strlen(before) : 0) + 2);
    if (!both) return;
    strcpy(both, path);
    if (before && *before) strcat(strcat(both, ":"), before);
    setenv("ATF_SESSION", session, 1);
    setenv("PYTHONPATH", both, 1);
    free(both);
}

void atf_ask(const char *session)
{
    if (!atf_family_open(session) || !ask(atf_family_here())) return;
    char *plan = value_of(answer, "plan"), *python = value_of(answer, "python");
    if (python) become_python(session, python);
    if (plan) atf_agent_start(plan);
    else if (value_of(answer, "follow") && atf_exec_here(session)) atf_hook_exec(); /* nothing of it is traced; what it executes may be */
}
