"""The C harness of slices: cut again and again out of rings that native threads fill, plain and under ThreadSanitizer.

FORBIDDEN outcomes are those at the head of tests/native/slice_stress.c, each checked in every slice.
"""

import pytest
from native_harness import ROOT, assert_caught, assert_clean, builder, run

CORE = ("producer", "detail", "joint", "slice", "slice_clock", "slice_rings", "slice_files")
SOURCES = [ROOT / "tests/native/slice_stress.c", *(ROOT / f"_core/{name}.c" for name in CORE)]

QUICK = {
    "one reader": "readers=1 pace=300",
    "a reader of its own and one from outside": "readers=2 pace=300",
    "every record has a detail": "readers=2 pace=200 details=1",
    "threads take the slots of others": "readers=1 slots=6 lives=30 records=3000 pace=100",
    "more threads than slots": "readers=1 slots=2 threads=6 pace=100 cells=256",
    "two rings a lane": "readers=1 index_rings=2 detail_rings=2 pace=200",
}
LONG = {name: f"{case} lives=100" for name, case in QUICK.items()}


@pytest.fixture(scope="session")
def harness(tmp_path_factory):
    return builder(tmp_path_factory.mktemp("slices"), SOURCES, "-std=c11")


@pytest.mark.parametrize("case", QUICK)
def test_plain(harness, tmp_path, case):
    assert_clean(run(harness("plain"), QUICK[case], tmp_path))


@pytest.mark.tsan
@pytest.mark.parametrize("case", QUICK)
def test_no_race(harness, tmp_path, case):
    """FORBIDDEN: any report of ThreadSanitizer."""
    assert_clean(run(harness("tsan"), QUICK[case] + " lives=4", tmp_path))


@pytest.mark.tsan
def test_broken_build_is_caught(harness, tmp_path):
    assert_caught(run(harness("broken"), "pace=200 lives=2", tmp_path))


def test_addresses(harness, tmp_path):
    """FORBIDDEN: an access outside of a ring, or undefined behaviour."""
    assert_clean(run(harness("asan"), QUICK["threads take the slots of others"] + " details=2 lives=4", tmp_path))


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("case", LONG)
def test_long(harness, tmp_path, case, seed):
    assert_clean(run(harness("plain"), f"{LONG[case]} seed={seed}", tmp_path, 600))


@pytest.mark.stress
@pytest.mark.tsan
@pytest.mark.parametrize("case", LONG)
def test_long_no_race(harness, tmp_path, case):
    assert_clean(run(harness("tsan"), f"{QUICK[case]} lives=20", tmp_path, 600))
