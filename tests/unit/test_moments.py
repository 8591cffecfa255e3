"""Timestamp and Duration: exact, in 64 bits, or refused."""

import copy
import pickle
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atf
from atf import Duration, Timestamp
from atf.errors import InvalidType, InvalidValue

MOST = 2**63 - 1
lengths = st.integers(-MOST - 1, MOST)
moments = st.integers(0, MOST)


def exact(made, value, least=-MOST - 1):
    """made() is value, or refused where value does not fit."""
    if least <= value <= MOST:
        assert made().ns == value and type(made().ns) is int
    else:
        with pytest.raises(InvalidValue):
            made()


@given(lengths, lengths, st.integers(-(10**30), 10**30))
def test_durations_are_exact_integers(a, b, n):
    exact(lambda: Duration(a) + Duration(b), a + b)
    exact(lambda: Duration(a) - Duration(b), a - b)
    exact(lambda: Duration(a) * n, a * n)
    exact(lambda: n * Duration(a), a * n)
    exact(lambda: -Duration(a), -a)
    exact(lambda: abs(Duration(a)), abs(a))
    if b:
        assert Duration(a) // Duration(b) == a // b
        exact(lambda: Duration(a) % Duration(b), a % b)
        exact(lambda: Duration(a) // b, a // b)
    assert [Duration(a) < Duration(b), Duration(a) <= Duration(b), Duration(a) == Duration(b)] == [a < b, a <= b, a == b]
    assert [Duration(a) > Duration(b), Duration(a) >= Duration(b), Duration(a) != Duration(b)] == [a > b, a >= b, a != b]
    assert (hash(Duration(a)) == hash(Duration(b))) >= (a == b) and bool(Duration(a)) == bool(a) and int(Duration(a)) == a


@given(moments, moments, lengths)
def test_moments_have_differences_and_no_sums(a, b, n):
    exact(lambda: Timestamp(a) - Timestamp(b), a - b)
    assert type(Timestamp(a) - Timestamp(b)) is Duration
    exact(lambda: Timestamp(a) + Duration(n), a + n, 0)
    exact(lambda: Duration(n) + Timestamp(a), a + n, 0)
    exact(lambda: Timestamp(a) - Duration(n), a - n, 0)
    assert (Timestamp(a) < Timestamp(b), Timestamp(a) == Timestamp(b)) == (a < b, a == b)
    for wrong in (
        lambda: Timestamp(a) + Timestamp(b), lambda: Duration(n) - Timestamp(a), lambda: Timestamp(a) * 2, lambda: Timestamp(a) < Duration(n),
        lambda: Timestamp(a) + b, lambda: Timestamp(a) < b, lambda: Duration(n) * Duration(n), lambda: Duration(n) / 2,
    ):
        with pytest.raises(TypeError):
            wrong()
    assert Timestamp(a) != a and Duration(n) != n and Timestamp(a) != Duration(a)


@given(st.fractions())
def test_seconds_are_exact_or_refused(value):
    for made, unit in ((Duration.from_seconds, 10**9), (Duration.from_millis, 10**6), (Duration.from_micros, 10**3)):
        if (value * unit).denominator == 1:
            exact(lambda: made(value), (value * unit).numerator)
        else:
            with pytest.raises(InvalidValue, match="fraction of a nanosecond"):
                made(value)


def test_decimals_and_whole_numbers():
    assert Duration.from_seconds(Decimal("0.000000001")).ns == 1
    assert Timestamp.from_seconds(Fraction(3, 2)) == Timestamp(1_500_000_000) == Timestamp.from_millis(1500) == Timestamp.from_micros(1_500_000)
    assert Duration.from_nanos(7) == Duration(7) and Timestamp.from_nanos(7) == Timestamp(7)
    for value in ("NaN", "Infinity"):
        with pytest.raises(InvalidValue):
            Duration.from_seconds(Decimal(value))
    assert str(Duration.from_millis(-1500)) == "-1.500000000 s" and repr(Timestamp(5)) == "Timestamp(5)"


@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf"), True, "1", None, 1j, Decimal(1)])
def test_what_is_not_an_integer_is_refused(value):
    for made in (Timestamp, Duration, Timestamp.from_nanos):
        with pytest.raises(InvalidType):
            made(value)
    if not isinstance(value, Decimal):
        with pytest.raises(InvalidType):
            Duration.from_seconds(value)
    for wrong in (lambda: Duration(3) * value, lambda: Duration(3) // value, lambda: Duration(3) + value):
        with pytest.raises(TypeError):
            wrong()
    assert issubclass(InvalidType, TypeError) and issubclass(InvalidValue, ValueError) and issubclass(InvalidType, atf.AtfError)


def test_bounds():
    for made in (lambda: Timestamp(-1), lambda: Timestamp(2**63), lambda: Duration(2**63), lambda: Duration(-(2**63) - 1)):
        with pytest.raises(InvalidValue):
            made()
    with pytest.raises(ZeroDivisionError):
        Duration(1) // Duration(0)


def test_now_is_the_clock_of_recordings():
    import time

    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    now = Timestamp.now()
    assert before <= now.ns <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_they_never_change_and_travel():
    for one in (Timestamp(5), Duration(-5)):
        assert pickle.loads(pickle.dumps(one)) == one == copy.deepcopy(one) == type(one)(one)
        with pytest.raises(AttributeError):
            one.ns = 6
