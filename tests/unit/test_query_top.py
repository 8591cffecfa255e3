"""functions.top against slow Python, on random sessions."""

import pytest

from span_answers import asked_case, rows_of, spancases, walk

pytestmark = pytest.mark.at_rest


@pytest.fixture(scope="module", params=range(20, 28))
def case(request, tmp_path_factory):
    return asked_case(tmp_path_factory.mktemp("spans"), request.param)


@pytest.mark.parametrize("group", ["function", "module", "file", "thread"])
def test_top_is_the_oracles(case, group):
    rng = case.rng
    for by in ("self", "total", "count", "mean", "min", "max", "p50", "p95", "p99", "exceptions"):
        filters = case.random_filters() if rng.random() < 0.7 else {}
        expected = []
        for name, (count, total, active, self_ns, low, high, exceptions, times) in spancases.sums(case.passing(filters), group).items():
            ranks = {f"p{p}Ns": spancases.nearest_rank(times, p) for p in (50, 95, 99)}
            row = {"count": count, "totalNs": total, "selfNs": self_ns, "minNs": low, "maxNs": high, "meanNs": active // count}
            row |= {**ranks, "exceptions": exceptions}
            expected.append(row | names_of(case, group, name))
        member = by if by in ("count", "exceptions") else f"{by}Ns"
        expected.sort(key=lambda row: (-row[member], order_of(row, group)))
        params = {"by": by, "group": group, "filters": filters, "shape": rng.choice(("rows", "columns"))}
        rows, total = walk(case, "functions.top", "functions", **params, limit=rng.choice((2, 7, 100)))
        if group != "file":
            assert [{k: v for k, v in row.items() if k in expected[0]} for row in rows] == expected, params
        assert total == len(expected) and sorted(map(comparable, rows)) == sorted(map(comparable, expected))
        offset = rng.randrange(4)
        assert rows_of(case.ask("functions.top", **params, offset=offset, limit=3), "functions") == rows[offset : offset + 3]


def names_of(case, group, name):
    if group == "thread":
        return {"threadId": case.tids[name], "threadName": "worker"}
    if group == "function":
        return dict(zip(("functionName", "moduleName", "file", "line"), name))
    return {"moduleName" if group == "module" else "file": name}


def order_of(row, group):
    if group == "thread":
        return row["threadId"]
    return tuple(row.get(name, "") for name in ("functionName", "moduleName", "file", "line")) if group == "function" else row.get("moduleName")


def comparable(row):
    return sorted((name, value) for name, value in row.items() if name.endswith("Ns") or name in ("count", "exceptions"))
