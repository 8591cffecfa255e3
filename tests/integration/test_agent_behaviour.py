"""Programs under the native agent do what they do without it, and the trace says what they say of themselves."""

import shutil

import pytest
from agent_bench import LIBRARY, Bench
from agent_check import check
from agent_programs import CXX, HEAD, C

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="the native agent is not built for this machine"),
    pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("g++") and shutil.which("nm")), reason="no compiler"),
]


@pytest.fixture
def bench(tmp_path):
    yield Bench(tmp_path)
    shutil.rmtree(tmp_path, ignore_errors=True)  # millions of records


@pytest.mark.parametrize("name", [name for name in C if name != "signals"])
def test_c(bench, name):
    check(bench, bench.build(HEAD + C[name]))


@pytest.mark.parametrize("name", CXX)
def test_cxx(bench, name):
    ran = check(bench, bench.build(HEAD + CXX[name], cxx=True))
    if name == "throw":
        with ran.trace() as trace:
            spans = trace.spans(status="exception")
            assert {span.name for span in spans} == {"program._Z7throweri", "program._Z7throughiRl"} and len(spans) == 4000


def test_a_handler_on_a_stack_of_its_own(bench):
    check(bench, bench.build(HEAD + C["signals"]), "altstack")


@pytest.mark.parametrize("tunable", ["glibc.pthread.rseq=0", "glibc.pthread.rseq=1"])
def test_records_stay_whole_whoever_registers_the_sequence(bench, tunable):
    """FORBIDDEN: a record of a signal handler inside one that was being written."""
    check(bench, bench.build(HEAD + C["signals"]), environment={"GLIBC_TUNABLES": tunable})
