"""Builds the compiled rooms. ATF_BUILD chooses the kind: release (default), debug, coverage, tsan, asan, ubsan."""

import glob
import os

from Cython.Build import cythonize
from setuptools import Extension, setup

KIND = os.environ.get("ATF_BUILD", "release")
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
COMPILE = ["-std=c11", "-D_GNU_SOURCE", "-fno-strict-aliasing", "-fvisibility=hidden", "-pthread", "-Wall", "-Wno-unused-function", *FLAGS[KIND]]
LINK = ["-pthread", *[flag for flag in FLAGS[KIND] if flag.startswith("-fsanitize")]]
# C that belongs to a module beside its .pyx.
SOURCES = {
    "recorder": ["atf/_core/producer.c", *sorted(glob.glob("atf/_core/vm/*.c"))],
    "drain": [f"atf/_core/{name}.c" for name in ("engine", "source", "links", "writer")],
}

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
setup(
    ext_modules=cythonize(
        extensions,
        build_dir=None if KIND == "coverage" else "build/cython",
        force=KIND != "release",
        compiler_directives={
            "language_level": 3,
            "autotestdict": False,
            "auto_pickle": False,
            "embedsignature": True,
            "linetrace": KIND == "coverage",
            "boundscheck": checked,
            "wraparound": checked,
            "initializedcheck": checked,
            "cdivision": not checked,
        },
    )
)
