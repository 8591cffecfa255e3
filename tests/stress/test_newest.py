"""The C harness of the lane of newest events: producers, readers, a stalled reader and forks, plain and under ThreadSanitizer.

The FORBIDDEN outcomes stand in tests/native/newest_stress.c; the last line of each run ends in a checksum.
"""

import pytest
from native_harness import ROOT, assert_caught, assert_clean, builder, run

QUICK = {
    "eight threads": "events=5000",
    "readers and long events": "capacity=7 large=2 readers=4 events=4000",
    "one event is kept": "capacity=1 events=4000 readers=4",
    "many short rounds": "capacity=3 events=40 rounds=300 readers=1",
    "cleared meanwhile": "capacity=3 clears=50 events=5000",
    "nothing is pushed out": "capacity=100000 events=2000",
}
LONG = {  # plain, under ThreadSanitizer
    "eight threads": ("events=300000 readers=4", "events=30000 readers=4"),
    "one event is kept": ("capacity=1 events=200000 readers=8 threads=16 stall=0", "capacity=1 events=10000 readers=8 threads=16 stall=0"),
    "many short rounds": ("capacity=5 events=60 rounds=5000 readers=1", "capacity=5 events=60 rounds=300 readers=1"),
    "long events, cleared": ("capacity=50 large=1 clears=1000 events=50000 readers=3", "capacity=50 large=1 clears=1000 events=5000 readers=3"),
}


@pytest.fixture(scope="session")
def harness(tmp_path_factory):
    return builder(tmp_path_factory.mktemp("newest"), [ROOT / "tests/native/newest_stress.c"], "-std=c11")


@pytest.mark.parametrize("case", QUICK)
def test_plain(harness, tmp_path, case):
    assert_clean(run(harness("plain"), QUICK[case], tmp_path))


def test_forked_in_the_middle(harness, tmp_path):
    assert_clean(run(harness("plain"), "fork=20 events=50000", tmp_path))


@pytest.mark.tsan
@pytest.mark.parametrize("case", QUICK)
def test_no_race(harness, tmp_path, case):
    """FORBIDDEN: any report of ThreadSanitizer."""
    assert_clean(run(harness("tsan"), QUICK[case].replace("rounds=300", "rounds=30"), tmp_path))


@pytest.mark.tsan
def test_broken_build_is_caught(harness, tmp_path):
    assert_caught(run(harness("broken"), "events=3000", tmp_path))


def test_addresses(harness, tmp_path):
    """FORBIDDEN: an access outside of a slot, or undefined behaviour."""
    assert_clean(run(harness("asan"), "events=3000 large=4", tmp_path))


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("case", LONG)
def test_long(harness, tmp_path, case, seed):
    assert_clean(run(harness("plain"), f"{LONG[case][0]} seed={seed}", tmp_path, 600))


@pytest.mark.stress
@pytest.mark.tsan
@pytest.mark.parametrize("case", LONG)
def test_long_no_race(harness, tmp_path, case):
    assert_clean(run(harness("tsan"), LONG[case][1], tmp_path, 900))
