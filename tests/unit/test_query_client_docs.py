"""The examples of docs/query/client.md are what the client says."""

import doctest
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import doctraces

DOCUMENT = Path(__file__).parents[2] / "docs/query/client.md"


def test_examples(tmp_path, monkeypatch):
    doctraces.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestParser().get_doctest(DOCUMENT.read_text(), {}, DOCUMENT.name, str(DOCUMENT), 0)
    said = []
    flags = doctest.ELLIPSIS
    result = doctest.DocTestRunner(optionflags=flags).run(examples, out=said.append)
    assert len(examples.examples) > 10 and result.failed == 0, "".join(said)
