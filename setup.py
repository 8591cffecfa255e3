"""Builds the compiled rooms. ATF_BUILD chooses the kind: release (default), debug, coverage, tsan, asan, ubsan."""

import contextlib
import copy
import glob
import io
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KIND = os.environ.get("ATF_BUILD") or "release"
FLAGS = {
    "release": ["-O3", "-g1"],
    "debug": ["-O0", "-g3", "-DATF_DEBUG"],
    "coverage": ["-O0", "-g1", "-DCYTHON_TRACE=1", "-DCYTHON_TRACE_NOGIL=1", "-DCYTHON_USE_SYS_MONITORING=0"],
    "tsan": ["-O1", "-g", "-fsanitize=thread"],
    "asan": ["-O1", "-g", "-fsanitize=address", "-fno-omit-frame-pointer"],
    "ubsan": ["-O1", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=undefined"],
}
if KIND not in FLAGS:
    raise SystemExit(f"ATF_BUILD={KIND!r}: choose one of {', '.join(FLAGS)}")
COMMON = ["-std=c11", "-D_GNU_SOURCE", "-fno-strict-aliasing", "-fvisibility=hidden", "-pthread", "-Wall", "-Wno-unused-function"]
COMPILE = [*COMMON, *FLAGS[KIND]]
LINK = ["-pthread", *[flag for flag in FLAGS[KIND] if flag.startswith("-fsanitize")]]
# C that belongs to a module beside its .pyx.
DRAIN = ("engine", "source", "output", "links", "writer", "flight", "history", "policy", "asked", "parts")
SOURCES = {
    "busguard": ["atf/_core/bus.c"],
    "recorder": ["atf/_core/producer.c", "atf/_core/detail.c", "atf/_core/joint.c", "atf/_core/names.c", *sorted(glob.glob("atf/_core/vm/*.c"))],
    "drain": [f"atf/_core/{name}.c" for name in DRAIN],
    "slicer": [f"atf/_core/{name}.c" for name in ("slice", "slice_clock", "slice_rings", "slice_files")],
    "ring": [f"atf/_core/{name}.c" for name in ("bench", "producer", "detail", "joint", *DRAIN)],  # a record path of its own
}
WORKERS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
GENERATED = None if KIND == "coverage" else f"build/{KIND}/cython"  # coverage wants the .c beside its .pyx
# The kind of the modules that lie in place: they are newer than every source, so only this tells a debug from a release one.
STAMP = pathlib.Path(f"build/kind-{sys.implementation.cache_tag}")
force = KIND != "release" or not STAMP.exists() or STAMP.read_text() != KIND


# The native agent: shared libraries for other programs, without Python. General registers only: what a traced function keeps in
# vector registers is left alone by never touching them.
AGENT = pathlib.Path("atf/_core/agent")
AGENT_FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-O3", "-g1", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", "-Wall", "-Wextra"]
AGENT_FLAGS += ["-mgeneral-regs-only", "-fno-tree-loop-distribute-patterns", "-fno-stack-protector"]
AGENT_ARCH = {"x86_64": ["-fcf-protection=none"], "aarch64": ["-mbranch-protection=none", "-mno-outline-atomics", "-ffixed-x18"]}  # flags of those it knows
MACHINE = platform.machine() if sys.platform == "linux" else ""


def build_agent():
    """Compile what is older than its sources."""
    sources = sorted([*AGENT.glob("*.c"), *AGENT.glob(f"{MACHINE}/*.[cS]")])
    newest = max(path.stat().st_mtime for path in [*sources, *AGENT.rglob("*.h"), *AGENT.parent.glob("*.[ch]")])
    parts = {"libatf_boot.so": [path for path in sources if path.stem == "boot"], "libatf_agent.so": [path for path in sources if path.stem != "boot"]}
    for name, files in parts.items():
        target = AGENT / name
        if not target.exists() or target.stat().st_mtime < newest:
            link = ["-shared", f"-Wl,-soname,{name}", "-Wl,-z,nodelete", "-Wl,-z,now", "-Wl,-z,noexecstack", "-pthread", "-ldl"]
            subprocess.run([*os.environ.get("CC", "gcc").split(), *AGENT_FLAGS, *AGENT_ARCH[MACHINE], *map(str, files), "-o", str(target), *link], check=True)


if AGENT.is_dir() and MACHINE in AGENT_ARCH and not {"clean", "sdist", "egg_info"} & set(sys.argv):
    build_agent()


class HintWatch(io.TextIOBase):
    """Passes text on to stderr and counts Cython's performance hints, those of its worker processes too."""

    def __init__(self, stream):
        self.stream, self.found = stream, tempfile.TemporaryFile(buffering=0)

    def write(self, text):
        self.found.write(b"+" * sum(line.startswith("performance hint:") for line in text.splitlines()))
        return self.stream.write(text)

    @property
    def hints(self):
        return os.fstat(self.found.fileno()).st_size


class BuildExt(build_ext):
    """Objects of each module in a directory of their own: several modules have the same C, and are compiled at the same time."""

    def build_extension(self, ext):
        own = copy.copy(self)
        own.build_temp = os.path.join(self.build_temp, ext.name)
        super(BuildExt, own).build_extension(ext)


checked = KIND in ("debug", "asan", "ubsan")
extensions = [
    Extension(
        f"atf._core.{stem}",
        [f"atf/_core/{stem}.pyx", *[s for s in SOURCES.get(stem, []) if os.path.exists(s)]],
        include_dirs=["atf/_core"],
        depends=glob.glob("atf/_core/*.h") + glob.glob("atf/_core/vm/*.h"),
        extra_compile_args=COMPILE,
        extra_link_args=LINK,
    )
    for stem in sorted(os.path.splitext(os.path.basename(path))[0] for path in glob.glob("atf/_core/*.pyx"))
]
with contextlib.redirect_stderr(HintWatch(sys.stderr)) as watch:
    modules = cythonize(
        extensions,
        build_dir=GENERATED,
        force=KIND != "release",
        nthreads=WORKERS if sys.version_info < (3, 14) else 0,  # its workers are to be forked, or their hints are not seen
        compiler_directives={
            "language_level": 3,
            "autotestdict": False,
            "auto_pickle": False,
            "embedsignature": True,
            "linetrace": KIND == "coverage",
            "show_performance_hints": KIND == "release",  # checks are what the other kinds are for
            "boundscheck": checked,
            "wraparound": checked,
            "initializedcheck": checked,
            "cdivision": not checked,
        },
    )
if watch.hints:
    shutil.rmtree(str(GENERATED))  # else the next build finds the .c up to date and says nothing
    raise SystemExit(f"{watch.hints} performance hint(s) of Cython (above): the compiled rooms are built without any")

if force:
    STAMP.unlink(missing_ok=True)  # a build that stops half way leaves modules of two kinds
options = {"build": {"build_base": f"build/{KIND}"}, "build_ext": {"force": force, "parallel": WORKERS}}
distribution = setup(ext_modules=modules, cmdclass={"build_ext": BuildExt}, options=options)
command = distribution.get_command_obj("build_ext", create=False)
if command is not None and command.inplace:
    STAMP.parent.mkdir(exist_ok=True)
    STAMP.write_text(KIND)
