"""Waits for signals that are blocked, and tells where one came from.

Not `signal.sigtimedwait`: when its process was stopped (SIGSTOP, a debugger) until the time was over, it returns a signal that nobody sent,
made of what happened to lie in memory.
"""

from posix.signal cimport sigaddset, sigemptyset, siginfo_t, sigset_t
from posix.time cimport timespec

from libc.errno cimport EAGAIN, EINTR, errno

import os

cdef extern from * nogil:
    """
    #include <errno.h>
    #include <signal.h>
    #ifdef __APPLE__
    static int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
    {
        (void)set, (void)info, (void)timeout;
        errno = ENOSYS;
        return -1;
    }
    #endif
    """
    int sigtimedwait(const sigset_t *set, siginfo_t *info, const timespec *timeout)


def wait(numbers, double seconds):
    """The next of these signals (blocked by the caller) as ``(number, sent)``; sent: by a process, not by the kernel or a
    terminal. None: none came in time, or the wait was cut short. OSError when the system refuses."""
    cdef sigset_t wanted
    cdef siginfo_t info
    cdef timespec most
    cdef int got, why
    if not 0 <= seconds <= 3600:
        raise ValueError(f"{seconds} s: from 0 to an hour")
    sigemptyset(&wanted)
    for number in numbers:
        if sigaddset(&wanted, number) != 0:
            raise ValueError(f"{number}: no signal")
    most.tv_sec = <long>seconds
    most.tv_nsec = <long>((seconds - most.tv_sec) * 1e9)
    with nogil:
        got = sigtimedwait(&wanted, &info, &most)
        why = errno
    if got > 0:
        return got, info.si_code <= 0
    if why != EAGAIN and why != EINTR:
        raise OSError(why, os.strerror(why))
    return None
