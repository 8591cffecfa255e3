"""Programs under the native agent do what they do without it; where they say so, record for record."""

import shutil

import pytest
from agent_bench import LIBRARY, Bench
from agent_check import check
from agent_shapes import GCC, TREE, C
from agent_shapes_cxx import CXX, GUARDS

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="the native agent is not built for this machine"),
    pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("g++") and shutil.which("nm")), reason="no compiler"),
]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.mark.parametrize("name", [*(name for name in C if name != "leaves_in_the_middle"), *GCC])
def test_c(bench, name):
    check(bench, bench.build(TREE + {**C, **GCC}[name], flags=["-rdynamic"]))


@pytest.mark.parametrize("name", CXX)
def test_cxx(bench, name):
    check(bench, bench.build(GUARDS + CXX[name], cxx=True, flags=["-std=c++20", "-rdynamic"]))
