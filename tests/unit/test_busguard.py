"""A file that is cut while it is mapped: zeros and a flag instead of the end of the process, and nothing else is touched."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HOME = None if os.environ.get("ATF_INSTALLED") else Path(__file__).parents[2]

PRELUDE = """
import faulthandler, mmap, os, signal, sys, threading
import numpy
from atf._core import busguard
from atf._core.errors import FormatError
from atf._core.filemap import FileMap
SIZE = 1 << 20
def mapped(name, size=SIZE):
    path = os.path.join(sys.argv[1], name)
    with open(path, "wb") as file:
        file.write(b"\\1" * size)
    with open(path, "rb") as file:
        return path, FileMap(file.fileno(), size, path)
def areas(path):
    return sum(path in line for line in open("/proc/self/maps"))
"""


def run(place, program):
    """(exit status, lines of output) of a Python with SIGBUS of its own."""
    done = subprocess.run([sys.executable, "-c", PRELUDE + program, str(place)], capture_output=True, text=True, cwd=HOME, timeout=60)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_zeros_and_a_flag(tmp_path):
    program = """
busguard.install(); busguard.install()
path, cut = mapped("cut"); other_path, other = mapped("other")
bytes_cut, bytes_other = numpy.frombuffer(cut, "u1"), numpy.frombuffer(other, "u1")
assert int(bytes_cut.sum()) == SIZE and not cut.damaged and busguard.hits() == 0
os.truncate(path, 5000)
print(int(bytes_cut.sum()), cut.damaged, other.damaged, busguard.hits())
print(int(bytes_other.sum()), int(bytes_cut[-1]), busguard.hits())
try: cut.check()
except FormatError as why: print(why)
other.check()
del bytes_cut, cut
print(areas(path), areas(other_path))
"""
    status, lines, err = run(tmp_path, program)
    assert (status, err) == (0, "")
    assert lines == ["5000 True False 1", f"{1 << 20} 0 1", f"{tmp_path}/cut: was cut while it was read; open it again to read what is left", "0 1"]


def test_a_slot_is_used_again_without_its_flag(tmp_path):
    program = """
busguard.install()
for n in range(300):  # more than a block of slots has, one after the other and many at once
    path, one = mapped(f"file", 8192)
    array = numpy.frombuffer(one, "u1")
    if n % 3 == 0:
        os.truncate(path, 0)
        assert int(array.sum()) == 0 and one.damaged
    else:
        assert int(array.sum()) == 8192 and not one.damaged
many = [mapped("file", 8192)[1] for n in range(300)]
os.truncate(os.path.join(sys.argv[1], "file"), 0)
print(sum(int(numpy.frombuffer(one, "u1").sum()) for one in many), sum(one.damaged for one in many), busguard.hits())
"""
    assert run(tmp_path, program) == (0, ["0 300 400"], "")


def test_many_threads_at_once(tmp_path):
    program = """
busguard.install()
path, one = mapped("file", 1 << 24)
array = numpy.frombuffer(one, "u1")
started = threading.Barrier(5)
sums = []
def read():
    started.wait()
    for _ in range(20):
        sums.append(int(array[1 << 16 :].sum()))
threads = [threading.Thread(target=read) for _ in range(4)]
[t.start() for t in threads]
started.wait()
os.truncate(path, 1 << 16)
[t.join() for t in threads]
print(len(sums), sums[-1], one.damaged, busguard.hits() >= 1)
"""
    assert run(tmp_path, program) == (0, ["80 0 True True"], "")


FOREIGN = """
path, one = mapped("file")
with open(path, "r+b") as file:
    foreign = mmap.mmap(file.fileno(), 0)
os.truncate(path, 0)
print("touches", flush=True)
foreign[0]
print("lives")
"""


@pytest.mark.parametrize("before", ["", "busguard.install()", "faulthandler.enable(); busguard.install()", "busguard.install(); faulthandler.enable()"])
def test_what_is_not_ours_ends_the_process_as_before(tmp_path, before):
    status, lines, err = run(tmp_path, before + FOREIGN)
    assert (status, lines) == (-signal.SIGBUS, ["touches"])
    assert ("Fatal Python error: Bus error" in err) == ("faulthandler" in before)


def test_a_signal_that_was_sent_is_passed_on(tmp_path):
    said = 'signal.signal(signal.SIGBUS, lambda *_: print("python", flush=True)); busguard.install(); os.kill(os.getpid(), signal.SIGBUS); print("on")'
    assert run(tmp_path, said) == (0, ["python", "on"], "")
    assert run(tmp_path, "busguard.install(); os.kill(os.getpid(), signal.SIGBUS)")[0] == -signal.SIGBUS


def test_importing_atf_installs_nothing(tmp_path):
    program = "import atf, atf.trace, atf.query.traces; print(busguard.hits())" + FOREIGN
    assert run(tmp_path, program)[:2] == (-signal.SIGBUS, ["0", "touches"])
