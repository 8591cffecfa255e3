"""Moments and lengths of time as exact integers of nanoseconds, on the clock of the recordings (CLOCK_BOOTTIME where there is one).

64 bits, and what does not fit them is refused, as is whatever is not exact: a float, a bool, a NaN, a fraction of a nanosecond.
"""

cimport cython
from cpython.object cimport Py_EQ, Py_GE, Py_GT, Py_LE, Py_LT, Py_NE
from libc.stdint cimport int64_t, uint64_t

from atf._core.errors import InvalidType, InvalidValue

cdef extern from "clock.h" nogil:
    int CLOCK_BOOTTIME
    uint64_t atf_clock_ns(int clock)

cdef object _LEAST = -(2**63)
cdef object _MOST = 2**63 - 1
cdef object _SECOND = 10**9


cdef object _whole(value, what):
    """An int; nothing that only looks like one."""
    if type(value) is int:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    raise InvalidType(f"{what} is an int of nanoseconds, not {type(value).__name__}: floats and bools are not exact")


cdef object _scaled(value, object unit, what):
    """value × unit as a whole number: value is an int, or a rational number or decimal that gives one."""
    if type(value) is int:
        return value * unit
    import decimal  # both are slow to import, and few need them
    import fractions

    if isinstance(value, (bool, float, str)) or not isinstance(value, (int, fractions.Fraction, decimal.Decimal)):
        raise InvalidType(f"{what} is made of an int, a Fraction or a Decimal, not of {type(value).__name__}: it must be exact")
    try:
        exact = fractions.Fraction(value) * unit
    except (ValueError, OverflowError) as error:  # NaN, infinity
        raise InvalidValue(f"{what} of {value}: it is no number") from error
    if exact.denominator != 1:
        raise InvalidValue(f"{what} of {value}: it has a fraction of a nanosecond")
    return exact.numerator


cdef str _seconds(int64_t ns):
    whole, rest = divmod(abs(int(ns)), _SECOND)
    return f"{'-' if ns < 0 else ''}{whole}.{rest:09d} s"


cdef bint _compared(int64_t a, int64_t b, int how) noexcept:
    if how == Py_EQ: return a == b
    if how == Py_NE: return a != b
    if how == Py_LT: return a < b
    if how == Py_LE: return a <= b
    if how == Py_GT: return a > b
    return a >= b


@cython.final
@cython.freelist(32)
cdef class Duration:
    """``Duration(ns)``: a length of time, also a negative one. Adds, subtracts, compares with its like; times an int; divided by its
    like (``//``, ``%``) or by an int (``//``). InvalidType and InvalidValue for what is not exact or not in 64 bits."""

    def __init__(self, ns=0):
        if type(ns) is Duration:
            self.ns = (<Duration>ns).ns
            return
        value = _whole(ns, "a Duration")
        if not _LEAST <= value <= _MOST:
            raise InvalidValue(f"a Duration of {value} ns: it does not fit 64 bits")
        self.ns = value

    @staticmethod
    def from_nanos(value):
        return Duration(value)

    @staticmethod
    def from_micros(value):
        return Duration(_scaled(value, 1000, "a Duration"))

    @staticmethod
    def from_millis(value):
        return Duration(_scaled(value, 1000000, "a Duration"))

    @staticmethod
    def from_seconds(value):
        """Of an int, Fraction or Decimal: ``Duration.from_seconds(Decimal("0.25"))``."""
        return Duration(_scaled(value, _SECOND, "a Duration"))

    def __add__(a, b):
        if type(a) is Duration and type(b) is Duration:
            return Duration(int((<Duration>a).ns) + int((<Duration>b).ns))
        if type(a) is Duration and type(b) is Timestamp:
            return Timestamp(int((<Duration>a).ns) + int((<Timestamp>b).ns))
        return NotImplemented

    def __sub__(a, b):
        if type(a) is Duration and type(b) is Duration:
            return Duration(int((<Duration>a).ns) - int((<Duration>b).ns))
        return NotImplemented

    def __mul__(a, b):
        if isinstance(a, (bool, float)) or isinstance(b, (bool, float)):
            return NotImplemented
        if type(a) is Duration and isinstance(b, int):
            return Duration(int((<Duration>a).ns) * int(b))
        return NotImplemented

    def __rmul__(self, other):
        return self.__mul__(other)

    def __floordiv__(a, b):
        if type(a) is not Duration or isinstance(b, bool):
            return NotImplemented
        if type(b) is Duration:
            return int((<Duration>a).ns) // int((<Duration>b).ns)
        return Duration(int((<Duration>a).ns) // int(b)) if isinstance(b, int) else NotImplemented

    def __mod__(a, b):
        if type(a) is Duration and type(b) is Duration:
            return Duration(int((<Duration>a).ns) % int((<Duration>b).ns))
        return NotImplemented

    def __neg__(self):
        return Duration(-int(self.ns))

    def __abs__(self):
        return Duration(abs(int(self.ns)))

    def __int__(self):
        return self.ns

    def __bool__(self):
        return self.ns != 0

    def __hash__(self):
        return hash((Duration, self.ns))

    def __richcmp__(self, other, int how):
        if type(other) is not Duration:
            return NotImplemented
        return _compared(self.ns, (<Duration>other).ns, how)

    def __repr__(self):
        return f"Duration({self.ns})"

    def __str__(self):
        return _seconds(self.ns)

    def __reduce__(self):
        return Duration, (self.ns,)


@cython.final
@cython.freelist(32)
cdef class Timestamp:
    """``Timestamp(ns)``: a moment, in nanoseconds since the machine began to run; never negative. ``Timestamp.now()`` is the same clock as
    the times in a recording. Timestamp - Timestamp is a Duration, Timestamp ± Duration a Timestamp; there is no sum of two."""

    def __init__(self, ns):
        if type(ns) is Timestamp:
            self.ns = (<Timestamp>ns).ns
            return
        value = _whole(ns, "a Timestamp")
        if not 0 <= value <= _MOST:
            raise InvalidValue(f"a Timestamp of {value} ns: it is from 0 to {_MOST}")
        self.ns = value

    @staticmethod
    def now():
        """This moment."""
        cdef Timestamp made = Timestamp.__new__(Timestamp)
        made.ns = <int64_t>atf_clock_ns(CLOCK_BOOTTIME)
        return made

    @staticmethod
    def from_nanos(value):
        return Timestamp(value)

    @staticmethod
    def from_micros(value):
        return Timestamp(_scaled(value, 1000, "a Timestamp"))

    @staticmethod
    def from_millis(value):
        return Timestamp(_scaled(value, 1000000, "a Timestamp"))

    @staticmethod
    def from_seconds(value):
        """Of an int, Fraction or Decimal, exact or refused."""
        return Timestamp(_scaled(value, _SECOND, "a Timestamp"))

    def __add__(a, b):
        if type(a) is Timestamp and type(b) is Duration:
            return Timestamp(int((<Timestamp>a).ns) + int((<Duration>b).ns))
        return NotImplemented

    def __sub__(a, b):
        if type(a) is Timestamp and type(b) is Timestamp:
            return Duration(int((<Timestamp>a).ns) - int((<Timestamp>b).ns))
        if type(a) is Timestamp and type(b) is Duration:
            return Timestamp(int((<Timestamp>a).ns) - int((<Duration>b).ns))
        return NotImplemented

    def __int__(self):
        return self.ns

    def __hash__(self):
        return hash((Timestamp, self.ns))

    def __richcmp__(self, other, int how):
        if type(other) is not Timestamp:
            return NotImplemented
        return _compared(self.ns, (<Timestamp>other).ns, how)

    def __repr__(self):
        return f"Timestamp({self.ns})"

    def __str__(self):
        return _seconds(self.ns)

    def __reduce__(self):
        return Timestamp, (self.ns,)
