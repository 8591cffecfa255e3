"""A budget's decisions, from costs alone; and what it is refused for."""

import random

import pytest

from atf import budget
from atf._core.errors import UsageError
import itertools


def steered(costs, limit=10.0, rungs=3, step=0.1):
    """(time, rung) after each look. costs(time, rung): what a level costs then."""
    steering, found = budget.Steering(limit, rungs), []
    for number in range(2000):
        now = number * step
        found.append((now, steering.look(now, costs(now, steering.at), costs(now, max(steering.at - 1, 0)))))
    return found


def changes(found):
    return sum(a[1] != b[1] for a, b in itertools.pairwise(found))


def test_it_goes_down_at_once_and_up_when_there_is_room_for_long():
    def costs(now, rung):
        return (30.0, 12.0, 4.0)[rung] if 10 <= now < 30 else 1.0

    found = steered(costs)
    assert all(rung == 0 for now, rung in found if now < 10)
    assert all(rung == 2 for now, rung in found if 10.2 < now < 30)
    back = min(now for now, rung in found if now > 30 and rung == 0)
    assert 2 * budget.HOLD_S <= back - 30 <= 2 * budget.HOLD_S + 1 and changes(found) == 4


def test_it_stays_below_what_would_cost_too_much():
    assert {rung for now, rung in steered(lambda now, rung: (25.0, 8.0, 3.0)[rung]) if now > 1} == {1}, "6.1 of 10 is no room: 25 would be the cost"


def test_a_wrong_forecast_is_tried_less_and_less():
    steering, rungs = budget.Steering(10.0, 2), []
    for number in range(6000):  # the level above looks cheap and never is
        rungs.append(steering.look(number * 0.1, (20.0, 1.0)[steering.at], 1.0))
    up = [i for i, (a, b) in enumerate(itertools.pairwise(rungs)) if b < a]
    waits = [round((b - a) * 0.1) for a, b in itertools.pairwise(up)]
    assert waits == sorted(waits) and waits[-1] >= 60 and rungs.count(0) < 20


@pytest.mark.parametrize("seed", range(20))
def test_it_costs_more_than_the_budget_for_no_longer_than_a_look_a_level(seed):
    rng = random.Random(seed)
    loads = [rng.choice([0.1, 1, 5, 40]) for _ in range(20)]

    def costs(now, rung):
        return loads[int(now / 10) % 20] * (1.0, 0.5, 0.2)[rung]

    found = steered(costs)
    for (now, rung), after in zip(found, found[2:]):
        if costs(now, rung) > 10 and int(now / 10) == int(after[0] / 10):
            assert costs(after[0], after[1]) <= 10


@pytest.mark.parametrize(
    ("level", "rungs"),
    [("args", ["args", "returns", "calls"]), ("c,args", ["c,args", "c", "calls"]), ("returns", ["returns", "calls"]), ("c", ["c", "calls"]),
     ("args,repr", ["args,repr", "returns", "calls"])],
)  # fmt: skip
def test_levels_to_choose_from(level, rungs):
    assert budget.ladder(level) == rungs


@pytest.mark.parametrize("text", ["", "5 percent", "-1", "0%", "nan", "1e9"])
def test_no_budget(text):
    with pytest.raises(UsageError, match="per cent of one processor"):
        budget.parse(text)


def test_below_calls_there_is_nothing():
    with pytest.raises(UsageError, match="below --level calls"):
        budget.ladder("calls")
    assert budget.parse("5%") == budget.parse(" 5 ") == 5.0
