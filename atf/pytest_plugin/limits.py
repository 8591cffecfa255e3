"""``max_calls`` and ``max_duration`` of the marker: a test that passed fails when its call phase did more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from atf.pytest_plugin.windows import Attempt


def check(attempt: Attempt, taken: Any) -> None:
    part, limits = attempt.phases["call"], attempt.limits
    if limits.max_duration_s is not None and part.end_ns is not None and part.end_ns - part.start_ns > limits.max_duration_s * 1e9:
        took = (part.end_ns - part.start_ns) / 1e9
        pytest.fail(f"the call phase took {took:.3g} s; @pytest.mark.atf(max_duration={limits.max_duration_s:g}) allows no more", pytrace=False)
    if limits.max_calls is not None:
        end_ns = part.end_ns if part.end_ns is not None else taken.now_ns()
        trace = taken.until(end_ns)
        begun = trace.events(kind="call", start_ns=part.start_ns, end_ns=end_ns)
        count = sum(1 for event in begun if event.function is not None and event.function.module)
        if count > limits.max_calls:
            pytest.fail(f"the call phase made {count:,} calls; @pytest.mark.atf(max_calls={limits.max_calls}) allows no more", pytrace=False)
