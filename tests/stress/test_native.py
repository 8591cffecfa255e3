"""The C harness of tests/native: rings, links, global lane and drain under load, plain and under ThreadSanitizer.

FORBIDDEN outcomes, each checked in every file that the harness wrote: a record twice; a record out of order; a record
that nobody produced; a record that is missing without a GAP in its place; a link between event and detail that holds
one way only; written + lost different from produced; under ``block`` anything lost at all.
"""

import re

import pytest
from native_harness import DRAIN, ROOT, assert_caught, assert_clean, builder, run

SOURCES = [ROOT / "tests/native/ring_stress.c", *(ROOT / f"_core/{name}.c" for name in ("producer", "detail", "joint")), *DRAIN]

QUICK = {
    "drop-oldest": "pace=300",
    "block": "block=1",
    "block, a slot each": "block=1 slots=64",
    "every record has a detail": "pace=100 details=1 detail_rings=3",
    "more threads than slots": "pace=100 threads=8 slots=2 cells=8",
    "a drain that stalls": "pace=200 lives=4 records=40000 stalls=1 slots=64 cells=512",
    "a drain that stalls, block": "block=1 stalls=1 lives=12",
    "two rings a lane": "pace=200 index_rings=2 slots=4",
    "spare rings": "pace=300 slots=4 spare_rings=3 details=2",
}
LONG = {
    "drop-oldest": "pace=500 lives=200",
    "block": "block=1 lives=200",
    "block, details": "block=1 lives=100 details=1 slots=64",
    "details, slots change hands": "pace=200 lives=100 details=1 threads=6 detail_rings=3",
    "stalls": "pace=100 lives=30 stalls=8 slots=8 cells=256 details=2",
    "spare rings change hands": "pace=400 lives=100 threads=6 slots=8 details=2 spare_rings=5",
    "stalls, block": "block=1 lives=100 stalls=6 threads=6",
}


@pytest.fixture(scope="session")
def harness(tmp_path_factory):
    return builder(tmp_path_factory.mktemp("native"), SOURCES, "-std=c11")


@pytest.mark.parametrize("case", QUICK)
def test_plain(harness, tmp_path, case):
    assert_clean(run(harness("plain"), QUICK[case], tmp_path))


def test_a_burst_that_fits_is_kept(harness, tmp_path):
    """FORBIDDEN: a record lost while there is room in the spare rings, whenever the drain comes."""
    done = run(harness("plain"), "pace=1000000 lives=2 slots=64 details=3 spare_rings=64 spare_kib=256 cells=2", tmp_path)
    assert_clean(done)
    assert " lost 0 unmarked 0 " in done.stdout and re.search(r"details (\d+) of \1 ", done.stdout)


@pytest.mark.tsan
@pytest.mark.parametrize("case", ["drop-oldest", "block", "every record has a detail", "more threads than slots", "a drain that stalls", "spare rings"])
def test_no_race(harness, tmp_path, case):
    """FORBIDDEN: any report of ThreadSanitizer."""
    assert_clean(run(harness("tsan"), QUICK[case] + " lives=4", tmp_path))


@pytest.mark.tsan
def test_broken_build_is_caught(harness, tmp_path):
    assert_caught(run(harness("broken"), "pace=200 lives=2", tmp_path))


def test_addresses(harness, tmp_path):
    """FORBIDDEN: an access outside of a ring, or undefined behaviour."""
    assert_clean(run(harness("asan"), QUICK["more threads than slots"] + " details=2 lives=4", tmp_path))


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    return builder(tmp_path_factory.mktemp("parts"), [ROOT / "tests/native/parts_stress.c", *SOURCES[1:]], "-std=c11")


def test_parts(parts, tmp_path):
    """FORBIDDEN: a record in two parts, in none, or in another thread's."""
    assert_clean(run(parts("plain"), "6 10 20000 32768", tmp_path))


@pytest.mark.tsan
def test_parts_no_race(parts, tmp_path):
    assert_clean(run(parts("tsan"), "4 4 20000 32768", tmp_path))


@pytest.mark.stress
@pytest.mark.tsan
@pytest.mark.parametrize("again", range(3))
def test_parts_long_no_race(parts, tmp_path, again):
    """Rings change hands often here: a thread once took back a spare ring that another had borrowed since it looked."""
    assert_clean(run(parts("tsan"), "6 40 20000 32768", tmp_path, 600))


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
