"""Programs with children, and what their traces say of each process. A line "@PID NAME N" on their output: this process called NAME N times."""

import collections
import pathlib
import subprocess

HEAD = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
extern char **environ;
#define KEEP __attribute__((noinline, noclone, used))
static volatile long sink;
/* One write, so that lines of several processes stay whole. */
static inline __attribute__((always_inline)) void say(const char *name, long n) { char s[200]; int k = snprintf(s, sizeof s, "@%d %s %ld\n", (int)syscall(SYS_getpid), name, n); if (write(1, s, k) != k) abort(); }
static inline __attribute__((always_inline)) int status_of(pid_t p) { int s; waitpid(p, &s, 0); return WIFEXITED(s) ? WEXITSTATUS(s) : 100 + WTERMSIG(s); }
KEEP void task(int i) { sink += i; }
"""

SOURCES = {
    # A tree: every process forks two more, down to a depth; returns through frames that were entered before its fork.
    "tree": r"""
KEEP void work(long n) { for (long i = 0; i < n; i++) task(i); }
KEEP int grow(int depth, long salt) {
    int bad = 0, born = 0; long mine = 0;
    for (int k = 0; k < 2 && depth; k++) {
        pid_t p = fork();
        if (!p) { born = 1, mine = 0, depth--, salt = salt * 2 + k + 1, k = -1, bad = 0; work(salt % 97 + 10); mine = salt % 97 + 10; continue; }
        bad |= status_of(p);
    }
    if (born) say("task", mine);
    return bad + (born ? 1000 : 0);
}
int main(void) { work(5); int r = grow(4, 1); if (r < 1000) { say("task", 5); printf("root %d\n", r); fflush(stdout); } return r >= 1000 ? r - 1000 : r; }
""",
    # The child's first event is a return, through a frame that was entered before the fork.
    "returns": r"""
KEEP int born(void) { int p = fork(); sink++; return p; }
KEEP int inner(void) { int p = born(); if (!p) task(1); return p; }
int main(void) { int p = inner(); if (p) printf("%d\n", status_of(p)); return 0; }
""",
    "short": r"""
int main(int c, char **v) { int n = atoi(v[1]), bad = 0;
    for (int i = 0; i < n; i++) { pid_t p = fork(); if (!p) { for (int k = 0; k <= i % 7; k++) task(k); say("task", i % 7 + 1); if (i % 3 == 0) kill(getpid(), SIGKILL); _exit(0); } bad += status_of(p) == 0; }
    printf("%d\n", bad); return 0; }
""",
    # Four threads call without a pause while a fifth forks, by fork and by a plain system call; children start threads of their own.
    "threads": r"""
static volatile int over; static long counts[4];
KEEP void leaf(int i) { sink += i; }
KEEP void *caller(void *p) { long n = 0; while (!over) { leaf(n++); if (n % 64 == 0) usleep(50); } counts[(long)p] = n; return NULL; }
KEEP void *other(void *p) { for (int i = 0; i < 50; i++) task(i); return p; }
KEEP void *forker(void *p) { long bad = 0;
    for (int i = 0; i < 30; i++) {
        pid_t k = i % 3 == 2 ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : i % 3 == 1 ? _Fork() : fork();
        if (!k) { int n = 20 + i; for (int j = 0; j < n; j++) task(j);
            if (i % 3 == 0) { pthread_t t; pthread_create(&t, NULL, other, NULL); pthread_join(t, NULL); n += 50; }
            say("task", n); _exit(0); }
        bad += status_of(k);
    }
    over = 1; return (void *)bad; }
int main(void) { pthread_t t[4], f; void *bad; for (long i = 0; i < 4; i++) pthread_create(&t[i], NULL, caller, (void *)i); pthread_create(&f, NULL, forker, NULL); pthread_join(f, &bad);
    long n = 0; for (int i = 0; i < 4; i++) { pthread_join(t[i], NULL); n += counts[i]; } say("leaf", n); printf("%ld\n", (long)bad); return 0; }
""",
    # Itself again by every way there is. With a number it calls task that often and ends with it.
    "executes": r"""
KEEP int again(const char *word) { int n = atoi(word); for (int i = 0; i < n; i++) task(i); say("task", n); return n; }
int main(int c, char **v) {
    char *e = getenv("LD_PRELOAD"), *a = getenv("ATF_AGENT"); int fds = 0, p, files[2];
    for (int i = 0; i < 40; i++) fds += fcntl(i, F_GETFD) != -1;
    printf("%s %s %s %d\n", c > 1 ? v[1] : "first", e ? e : "-", a ? a : "-", fds); fflush(stdout);
    if (c > 2) { char *rest[] = {v[0], v[2], v[3], NULL}; again(v[1]); execv(v[0], rest); return 99; }
    if (c > 1) return again(v[1]);
    char *args[] = {v[0], "3", NULL}; char line[600];
    if (!(p = fork())) { execv(v[0], args); _exit(99); } printf("%d\n", status_of(p));
    args[1] = "4"; if (!(p = vfork())) { execve(v[0], args, environ); _exit(99); } printf("%d\n", status_of(p));
    args[1] = "5"; if (posix_spawn(&p, v[0], NULL, NULL, args, environ)) return 1; printf("%d\n", status_of(p));
    fflush(stdout); snprintf(line, sizeof line, "%s 6", v[0]); printf("%d\n", WEXITSTATUS(system(line)));
    fflush(stdout); snprintf(line, sizeof line, "%s 7", v[0]); FILE *f = popen(line, "r"); while (fgets(line, sizeof line, f)) fputs(line, stdout); printf("%d\n", WEXITSTATUS(pclose(f)));
    fflush(stdout); args[1] = "8"; char *little[] = {"A=1", "LD_PRELOAD=", NULL}; if (!(p = fork())) { int x = open(v[0], O_RDONLY | O_CLOEXEC); fexecve(x, args, little); _exit(99); } printf("%d\n", status_of(p));
    args[1] = "9"; if (!(p = fork())) { execveat(AT_FDCWD, v[0], args, NULL, 0); _exit(99); } printf("%d\n", status_of(p));
    fflush(stdout); char *chain[] = {v[0], "10", "11", "12", NULL}; if (!(p = fork())) { execv(v[0], chain); _exit(99); } printf("%d\n", status_of(p));
    (void)files; return 0; }
""",
    # What cannot be executed: the process that tried goes on.
    "refused": r"""
int main(int c, char **v) { int p, bad = 0;
    if (!(p = fork())) { char *args[] = {"x", NULL}; task(1); bad += execv("/no/such/program", args) == -1 && errno == ENOENT; task(2); bad += execv("/etc/passwd", args) == -1 && errno == EACCES;
        bad += execve("/", args, NULL) == -1 && errno == EACCES; bad += execve(v[1], args, environ) == -1 && errno == ENOEXEC; bad += execve(v[2], args, environ) == -1 && errno == ENOENT;
        bad += execve(v[3], args, environ) == -1 && errno == EACCES;
        bad += execve((char *)(sink | 8), args, environ) == -1 && errno == EFAULT; task(3); say("task", 3); _exit(bad); }
    printf("%d\n", status_of(p)); for (int i = 0; i < 4; i++) task(i); say("task", 4); return 0; }
""",
    # A library that the child loads before its parent does.
    "plugins": r"""
#include <dlfcn.h>
KEEP void load(const char *path, int n) { void (*f)(int) = (void (*)(int))dlsym(dlopen(path, RTLD_NOW), "plugged"); for (int i = 0; i < n; i++) f(i); say("plugged", n); }
int main(int c, char **v) { pid_t p = fork(); if (!p) { load(v[1], 3); _exit(0); } int bad = status_of(p); load(v[1], 5); printf("%d\n", bad); return bad; }
""",
    "plugged": 'void plugged(int i) { sink += i; }',
    # Runs what it is told, and says how that ended.
    "runs": r"""
int main(int c, char **v) { int p; task(1); if (!(p = fork())) { execvp(v[1], v + 1); _exit(99); } printf("%d\n", status_of(p)); task(2); say("task", 2); return 0; }
""",
    # Children that go on by themselves until a file is there.
    "lasting": r"""
int main(int c, char **v) { for (int k = 0; k < 3; k++) if (!fork()) { long n = 0; while (access(v[1], F_OK)) { task(n++); usleep(500);
            if (n % 50 == 0) { pid_t p = fork(); if (!p) { task(1); _exit(0); } status_of(p); } } _exit(n < 3); }
    int bad = 0, s; while (wait(&s) > 0) bad += s != 0; printf("%d\n", bad); return bad; }
""",
    "storm": r"""
int main(int c, char **v) { int n = atoi(v[1]), go[2]; char b; if (pipe(go)) return 1;
    for (int i = 0; i < n; i++) if (!fork()) { close(go[1]); task(i); if (read(go[0], &b, 1) < 0) return 1; _exit(0); }
    close(go[0]); usleep(200000); close(go[1]); int k = 0; while (wait(NULL) > 0) k++; printf("%d\n", k); return 0; }
""",
}


def build(directory, name, *flags):
    source, program = pathlib.Path(directory) / f"{name}.c", pathlib.Path(directory) / (name + "".join(flags).replace("-", "_"))
    source.write_text(HEAD + SOURCES[name])
    subprocess.run(["gcc", "-O2", "-g", "-pthread", *flags, str(source), "-o", str(program)], check=True)
    return str(program)


def said(text):
    """{(pid, name): calls}, and the other lines."""
    told, rest = collections.Counter(), []
    for line in text.splitlines():
        if line.startswith("@"):
            pid, name, count = line[1:].split()
            told[int(pid), name] += int(count)
        else:
            rest.append(line)
    return told, rest


def recorded(ran, *names):
    """{(pid, name): calls} of a session, by process; calls that were in progress at a fork are not counted."""
    found = collections.Counter()
    with ran.trace() as trace:
        assert trace.check() == []
        assert trace.info["lost"] == {}
        for process in trace.processes:
            manifest = process.manifest.data
            assert manifest["status"] == "complete"
            known = {int(symbol["function_id"], 16): symbol["name"] for symbol in manifest["symbols"]}
            for thread in process.threads:
                events = thread.events[thread.entered :]
                for one in events["function_id"][events["event_kind"] == 1].tolist():
                    if known[one] in names:
                        found[process.pid, known[one]] += 1
    return found
