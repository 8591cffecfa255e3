"""The sum that every recording must satisfy: written + dropped + filtered + held = produced, for events and for details."""

import contextlib
import json
import pathlib

from atf import metrics


def check_source(source):
    """What a drain counted, now: of each thread. Returns the rows."""
    rows = source.threads()
    for row in rows:
        found = metrics.of_thread(row)
        assert metrics.unaccounted(found) == (0, 0), found
        assert all(value >= 0 for value in found.values() if isinstance(value, int))
        assert found["written"] <= row["events"] and (not row["finished"] or found["held"] == found["details_held"] == 0 or source.finished is False)
    return rows


@contextlib.contextmanager
def checked_sources(monkeypatch, drain):
    """Checks every source that is made inside, at the end."""
    made, plain = [], drain.Source

    def noted(*words, **options):
        made.append(plain(*words, **options))
        return made[-1]

    monkeypatch.setattr(drain, "Source", noted)
    yield
    for source in made:
        check_source(source)
    made.clear()


def check_row(row):
    """The same of one row of ``atf stat`` or of a manifest, where zeros may be left out."""
    full = {**metrics.summed([]), **row}
    assert metrics.unaccounted(full) == (0, 0), full
    return full


def check_manifests(place):
    """The same of every manifest below a directory. Returns how many threads were checked."""
    checked = 0
    for path in pathlib.Path(place).rglob("manifest.json"):
        try:
            manifest = json.loads(path.read_text(errors="surrogateescape"))
        except ValueError:
            continue  # some tests damage them
        for thread in manifest.get("threads", []) if isinstance(manifest, dict) else []:
            if "metrics" in thread:
                full = check_row(thread["metrics"])
                assert full["dropped"] == thread["lost"]
                checked += 1
        if isinstance(manifest, dict) and "metrics" in manifest:
            check_row(manifest["metrics"])
    return checked
