"""Small C programs that start, stop and mistreat the agent from inside, and one that starts others where rseq is forbidden."""

from agent_shapes import TREE

# Takes orders: "start PLAN", "stop", "work" (calls it 1000 times), "end". `two` is in the plan beside it.
OBEYS = (
    TREE
    + r"""
#include <dlfcn.h>
KEEP long work(long x) { asm volatile(""); return x * 3 + 1; }
KEEP long two(long x) { return work(x) + work(x + 1); }
int main(void) {
    int (*start)(const char *) = (int (*)(const char *))dlsym(RTLD_DEFAULT, "atf_agent_start"); int (*stop)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "atf_agent_stop");
    static char line[4096]; setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) { line[strcspn(line, "\n")] = 0; long s = 0;
        if (!strncmp(line, "start ", 6)) printf("%d\n", start(line + 6)); else if (!strcmp(line, "stop")) printf("%d\n", stop());
        else if (!strcmp(line, "work")) { for (int i = 0; i < 1000; i++) s += two(i); printf("%ld\n", s); } else break; }
    return 0; }
"""
)

# Each thread counts its own calls in a shared file: a page a thread, its id and how many calls were over.
COUNTS = (
    TREE
    + r"""
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
static char *pages;
KEEP long work(long x) { asm volatile(""); return x * 3 + 1; }
KEEP void *counts(void *p) { volatile long *n = (volatile long *)(pages + 4096 * (long)p); n[1] = syscall(SYS_gettid); for (;;) { work(n[0]); n[0] = n[0] + 1; } return NULL; }
int main(int argc, char **argv) { (void)argc; long threads = atoi(argv[2]); int fd = open(argv[1], O_RDWR); pages = mmap(0, 4096 * (size_t)threads, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); pthread_t t;
    for (long i = 1; i < threads; i++) pthread_create(&t, NULL, counts, (void *)i); counts(0); }
"""
)

# launch LIBRARY PLAN PROGRAM ...: rseq is answered by ENOSYS there.
LAUNCH = (
    TREE
    + r"""
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
int main(int argc, char **argv) { (void)argc;
    struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rseq, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog filter = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) return 77;
    setenv("LD_PRELOAD", argv[1], 1); setenv("ATF_AGENT", argv[2], 1); execv(argv[3], argv + 3); return 78; }
"""
)
