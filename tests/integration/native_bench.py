"""Small C and C++ programs, compiled when they are first asked for, and the processes that run them."""

import contextlib
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

from atf.native import injector

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="compiles small programs with gcc")
needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="compiles small programs with g++")
needs_frida = pytest.mark.skipif(importlib.util.find_spec("frida") is None, reason="enters running processes by frida")


def _agent():
    try:
        return injector.agent_file()
    except Exception:
        return None


needs_agent = pytest.mark.skipif(_agent() is None, reason="the native agent is not built for this machine")

SOURCES = {
    # Prints the sum; leaf is called ten times a middle, middle as often as the first argument says.
    "loop": """
        #include <stdio.h>
        #include <stdlib.h>
        #include <unistd.h>
        __attribute__((noinline)) int leaf(int x) { __asm__ volatile(""); return x * 3 + 1; }
        __attribute__((noinline)) int middle(int x) { int s = 0; for (int i = 0; i < 10; i++) s += leaf(x + i); return s; }
        int main(int argc, char **argv) {
            int rounds = atoi(argv[1]), pause_us = argc > 2 ? atoi(argv[2]) : 0;
            long total = 0;
            for (int i = 0; i < rounds; i++) { total += middle(i); if (pause_us) usleep(pause_us); }
            printf("%ld\\n", total);
            return argc > 3 ? atoi(argv[3]) : 0;
        }""",
    # Two named threads call until stdin ends; then every total is printed.
    "busy": """
        #define _GNU_SOURCE
        #include <pthread.h>
        #include <stdio.h>
        #include <unistd.h>
        static volatile int over;
        __attribute__((noinline)) long step(long x) { __asm__ volatile(""); return x + 1; }
        static void *work(void *name) {
            pthread_setname_np(pthread_self(), name);
            long n = 0, calls = 0;
            while (!over) { n = step(n); if (++calls % 200 == 0) usleep(100); }
            return (void *)(n == calls ? 1L : 0L);
        }
        int main(void) {
            pthread_t one, two;
            void *a, *b;
            char c;
            pthread_create(&one, 0, work, "worker-one");
            pthread_create(&two, 0, work, "worker-two");
            puts("ready");
            fflush(stdout);
            while (read(0, &c, 1) > 0) { }
            over = 1;
            pthread_join(one, &a);
            pthread_join(two, &b);
            puts(a && b ? "whole" : "broken");
            return 0;
        }""",
    "crash": """
        #include <signal.h>
        #include <stdlib.h>
        __attribute__((noinline)) void inner(int how) { if (how) raise(how); else *(volatile int *)0 = 1; __asm__ volatile(""); }
        __attribute__((noinline)) void outer(int how) { inner(how); __asm__ volatile(""); }
        int main(int argc, char **argv) { outer(atoi(argv[1])); return 0; }""",
    # What a program sees of its surroundings.
    "around": """
        #include <stdio.h>
        #include <unistd.h>
        #include <signal.h>
        extern char **environ;
        int main(int argc, char **argv) {
            for (int i = 0; i < argc; i++) printf("%s\\n", argv[i]);
            for (char **e = environ; *e; e++) printf("%s\\n", *e);
            sigset_t mask;
            sigprocmask(SIG_BLOCK, 0, &mask);
            for (int s = 1; s < 32; s++) printf("%d", sigismember(&mask, s));
            for (int s = 1; s < 32; s++) { struct sigaction a; sigaction(s, 0, &a); printf("%d", a.sa_handler == SIG_DFL ? 0 : a.sa_handler == SIG_IGN ? 1 : 2); }
            printf("\\n%d\\n", (int)(getppid() > 1));
            for (int fd = 0; fd < 64; fd++) if (lseek(fd, 0, SEEK_CUR) != -1 || isatty(fd)) printf("fd %d\\n", fd);
            return 0;
        }""",
    "shapes.cpp": """
        #include <cstdio>
        #include <stdexcept>
        #include <string>
        #include <vector>
        namespace shop {
        struct Item { int price; };
        class Basket {
        public:
            __attribute__((noinline)) void add(Item const &item) { items.push_back(item); if (item.price < 0) throw std::runtime_error("price"); }
            __attribute__((noinline)) int operator()(int factor) const { int sum = 0; for (auto const &i : items) sum += i.price * factor; return sum; }
        private:
            std::vector<Item> items;
        };
        template <typename T> __attribute__((noinline)) T twice(T value) { return value + value; }
        }
        int main() {
            shop::Basket basket;
            basket.add({3});
            try { basket.add({-1}); } catch (std::exception const &error) { std::printf("%s\\n", error.what()); }
            std::printf("%d %d\\n", basket(2), shop::twice(21));
        }""",
}


def compile_program(directory, name, *flags):
    """The program of SOURCES, compiled with -O2 -g and further flags."""
    suffix = pathlib.PurePath(name).suffix or ".c"
    stem = name.removesuffix(".cpp")
    source, program = pathlib.Path(directory) / f"{stem}{suffix}", pathlib.Path(directory) / (stem + "".join(flags).replace("-", "_"))
    source.write_text(SOURCES[name])
    compiler = "g++" if suffix == ".cpp" else "gcc"
    subprocess.run([compiler, "-O2", "-g", "-pthread", *flags, str(source), "-o", str(program)], check=True)
    return str(program)


def manifest_of(ran):
    (process,) = ran.path.glob("pid_*")
    return json.loads((process / "manifest.json").read_text())


def calls_of(trace):
    """{name: completed calls}."""
    counts = {}
    for span in trace.spans():
        counts[span.function.name] = counts.get(span.function.name, 0) + 1
    return counts


@contextlib.contextmanager
def running(*command):
    """A process with pipes that bears its program's name; it is gone afterwards."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    own, name = pathlib.Path("/proc/self/comm").read_text(), pathlib.Path(f"/proc/{process.pid}/comm")
    deadline = time.monotonic() + 5
    while name.exists() and name.read_text() == own and time.monotonic() < deadline:
        time.sleep(0.001)  # exec lets go of Python's pipe a moment before it changes the name
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def attach_words(bench, pid, *options):
    return [sys.executable, "-m", "atf", "attach", str(pid), "--out", str(bench.root), *options]
