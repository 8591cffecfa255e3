"""The agent's instruction decoder against objdump, on code that this machine has."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("objdump")), reason="no compiler")
LIBRARIES = [p for name in ("libc.so.6", "libstdc++.so.6") for p in pathlib.Path("/lib").glob(f"x86_64-linux-gnu/{name}")]

# bytes, kind, offset of the RIP-relative operand
KNOWN = """
c3 5 0
e800000000 1 0
eb10 2 0
e910000000 2 0
7405 3 0
0f8400000000 3 0
e2fe 4 0
ff2500000000 6 2
ff1500000000 7 2
ffd0 7 0
488b0500000000 0 3
f30f1efa 0 0
66c70500000000aabb 0 3
48b80011223344556677 0 0
f6050000000001 0 2
0f0b 8 0
c5f877 0 0
"""


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    target = tmp_path_factory.mktemp("decoder") / "decode"
    source = ROOT / "tests" / "native" / "decode_lengths.c"
    subprocess.run(["gcc", "-O2", "-I", ROOT / "_core", source, "-o", target], check=True, timeout=60)
    return target


def test_known_instructions(decoder):
    lines = KNOWN.strip().splitlines()
    done = subprocess.run([decoder], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=10)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not LIBRARIES, reason="no library of this architecture")
def test_lengths_are_objdumps(decoder):
    """FORBIDDEN: a length that is not objdump's; XBEGIN alone is refused, it cannot be moved."""
    for library in LIBRARIES:
        start = int(subprocess.run(["readelf", "-SW", library], capture_output=True, text=True).stdout.split(" .text ")[1].split()[1], 16)
        command = ["objdump", "-dw", "--insn-width=16", f"--start-address={start}", f"--stop-address={start + 400_000}", str(library)]
        text = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        rows = re.findall(r"^ *[0-9a-f]+:\t([0-9a-f ]+?) *\t(.*)$", text, re.M)
        lines = [row.replace(" ", "") for row, what in rows if "(bad)" not in what and "xbegin" not in what and not what.startswith("c7 f8")][:-8]  # the last is cut
        done = subprocess.run([decoder], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=60)
        assert len(lines) > 50_000 and done.returncode == 0, (library, done.stdout)
        sys.stdout.write(done.stdout)
