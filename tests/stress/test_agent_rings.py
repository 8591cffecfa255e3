"""The harness tests/native/agent_stress.c: the agent's record path as the agent compiles it, under load and under ThreadSanitizer.

FORBIDDEN, checked in every file that it wrote: what test_native forbids, and a record whose kind or depth is not what its thread did.
"""

import os

import pytest
from native_harness import DRAIN, ROOT, assert_caught, assert_clean, builder, run

PLACE = ROOT / "_core/agent"
AGENT = sorted(path for path in [*PLACE.glob("*.c"), *PLACE.glob("x86_64/*.[cS]")] if path.stem != "boot")  # boot is the other library
SOURCES = [ROOT / "tests/native/agent_stress.c", *AGENT, *DRAIN]

pytestmark = pytest.mark.skipif(os.uname().sysname != "Linux" or os.uname().machine != "x86_64", reason="there is no agent for this machine")

QUICK = {
    "drop-oldest": "pace=300",
    "block": "block=1",
    "block, a slot each": "block=1 slots=64",
    "more threads than slots": "pace=100 threads=8 slots=2 cells=8",
    "a drain that stalls": "pace=200 lives=4 records=40000 stalls=1 slots=64 cells=512",
    "two rings a lane": "pace=200 index_rings=2 slots=4",
    "spare rings": "pace=300 slots=4 spare_rings=3",
    "frames left by jumps": "block=1 jumps=3 records=10000",
}
LONG = {
    "drop-oldest": "pace=500 lives=200",
    "block": "block=1 lives=200",
    "jumps": "block=1 lives=100 jumps=4 slots=64",
    "slots change hands": "pace=200 lives=100 threads=6",
    "stalls": "pace=100 lives=30 stalls=8 slots=8 cells=256",
    "stalls, block": "block=1 lives=100 stalls=6 threads=6",
}


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    short = ["-DATF_END_ROUNDS=3"]
    return builder(tmp_path_factory.mktemp("agent"), SOURCES, "-std=gnu11", of_kind={"tsan": short, "broken": short})


@pytest.mark.parametrize("case", QUICK)
def test_plain(harness, tmp_path, case):
    assert_clean(run(harness("plain"), QUICK[case], tmp_path))


def test_blocks_and_slots_are_used_again(harness, tmp_path):
    """FORBIDDEN: memory for every thread that ever was."""
    done = run(harness("plain"), "block=1 lives=300 records=20", tmp_path)
    assert_clean(done)
    blocks = int(done.stdout.partition(" blocks ")[2].split()[0])
    assert blocks <= 16, done.stdout


@pytest.mark.tsan
@pytest.mark.parametrize("case", ["drop-oldest", "block", "more threads than slots", "a drain that stalls", "spare rings", "frames left by jumps"])
def test_no_race(harness, tmp_path, case):
    """FORBIDDEN: any report of ThreadSanitizer."""
    assert_clean(run(harness("tsan"), QUICK[case] + " lives=4", tmp_path))


@pytest.mark.tsan
def test_broken_build_is_caught(harness, tmp_path):
    assert_caught(run(harness("broken"), "pace=200 lives=2", tmp_path))


def test_addresses(harness, tmp_path):
    """FORBIDDEN: an access outside of a ring or a block, or undefined behaviour."""
    assert_clean(run(harness("asan"), QUICK["more threads than slots"] + " jumps=5 lives=4", tmp_path))


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("case", LONG)
def test_long(harness, tmp_path, case, seed):
    assert_clean(run(harness("plain"), f"{LONG[case]} seed={seed}", tmp_path, 600))


@pytest.mark.stress
@pytest.mark.tsan
@pytest.mark.parametrize("case", LONG)
def test_long_no_race(harness, tmp_path, case):
    assert_clean(run(harness("tsan"), LONG[case], tmp_path, 900))
