"""Records what a piece of source does, through the real rings and the real drain, and reads the files back as lines of text."""

import contextlib
import pathlib
import struct
import sys
import textwrap

import msgspec
import numpy

from atf._core import drain, layout, recorder, segment

BITS = {"calls": 1, "returns": 2, "c": 4, "args": 8}
RECORD = struct.Struct(layout.DETAIL_RECORD)
GEOMETRY = {"slots": 16, "index_bytes": 1 << 20, "detail_bytes": 1 << 20}


class Recorded:
    """Filled when the recording ends: ``threads`` is a list of event lists in order of the threads' first events."""

    def __init__(self):
        self.threads = []
        self.names = {}
        self.modules = {}
        self.details = []
        self.entered = []
        self.hooks = ""

    def lines(self, thread=0, details=False, full=False):
        """One event a line, indented by depth: ``call f``; names without their scope (3.10 knows no other)."""
        found = []
        for event in self.threads[thread]:
            name = self.name(event["function_id"])
            text = "  " * (int(event["call_depth"]) - 1) + layout.KINDS[int(event["event_kind"])] + " "
            text += name if full else name.rpartition(".")[2]
            if details and int(event["detail_seq"]) != layout.NO_DETAIL:
                text += " " + str(self.details[thread][int(event["detail_seq"])][1])
            found.append(text)
        return found

    def name(self, function_id):
        module = self.modules[int(function_id) >> 32]
        name, _line, _file = self.names[int(function_id)]
        return name if module in ("shapes", "__main__") else f"{module}:{name}"

    def detail(self, kind, name, thread=0):
        """Details of the events of this kind and name, in order."""
        found = []
        for event in self.threads[thread]:
            if layout.KINDS[int(event["event_kind"])] == kind and self.name(event["function_id"]).rpartition(".")[2] == name:
                seq = int(event["detail_seq"])
                found.append(None if seq == layout.NO_DETAIL else self.details[thread][seq][1])
        return found

    def balance(self, thread=0):
        """Entries minus exits, and the lowest point on the way."""
        kinds = self.threads[thread]["event_kind"]
        steps = numpy.where(numpy.isin(kinds, [1, 6]), 1, numpy.where(numpy.isin(kinds, [2, 3, 5]), -1, 0))
        total = numpy.cumsum(steps)
        return (int(total[-1]), int(total.min())) if len(total) else (0, 0)


def _read(recorded, directory, segments):
    _, names = segments.names()
    for kind, number, line, name, file in names:
        if kind == 1:
            recorded.modules[number] = name
        else:
            recorded.names[number] = (name, line, file)
    for path in sorted(pathlib.Path(directory).glob("thread_*"), key=lambda p: int(p.name.partition("_")[2])):
        data = (path / "index.atf").read_bytes()
        recorded.threads.append(numpy.frombuffer(data[64:-64], dtype=layout.EVENT_DTYPE))
        found = []
        if (path / "detail.atf").exists():
            data = (path / "detail.atf").read_bytes()[64:-64]
            at = 0
            while at < len(data):
                length, kind, _flags, _seq, _tid, _time = RECORD.unpack_from(data, at)
                found.append((kind, msgspec.msgpack.decode(data[at + RECORD.size : at + length], strict=False)))
                at += length
        recorded.details.append(found)


@contextlib.contextmanager
def recording(directory, level="returns", include=("shapes*",), exclude=(), policy="block", repr=False):
    """Records this process into files below ``directory``; yields a Recorded that is filled at the end."""
    recorded = Recorded()
    pathlib.Path(directory).mkdir(exist_ok=True)
    memory = segment.SegmentSet.create(options=GEOMETRY, policy=policy, drain_expected=True, level=2)
    memory.remove()  # gone with this process, however it ends
    engine = drain.Drain()
    source = drain.Source(memory.segments, directory)
    engine.add(source)
    engine.start()
    recorder.open_session(memory.segments)
    bits = sum(BITS[name] for name in level.split(","))
    try:
        recorder.start_hooks(bits | (recorder.LEVEL_REPR if repr else 0), tuple(include), tuple(exclude))
        recorded.hooks = recorder.mechanism()
        recorded.set_level = lambda name: memory.segments.set_level(BITS[name])
        yield recorded
    finally:
        recorder.stop_hooks()
        recorder.close_session()
        memory.segments.stop()
        engine.finish(source)
        engine.join()
        recorded.entered = [thread["entered"] for thread in source.threads()]
        _read(recorded, directory, memory.segments)
        del source, engine
        memory.remove()
        memory.detach()


def load(source, **names):
    """A namespace of the module ``shapes`` in which the source was run."""
    namespace = {"__name__": "shapes", "__file__": "shapes.py", **names}
    exec(compile(textwrap.dedent(source), "shapes.py", "exec"), namespace)
    return namespace


def here(expected, hooks=""):
    """The lines of this Python: ``3.12| text`` holds on 3.12 only, ``3.11-| text`` until 3.11, ``3.13+| text`` from 3.13 on,
    ``3.10p| text`` on 3.10 under the profile hook."""
    found = []
    minor = sys.version_info.minor
    for line in textwrap.dedent(expected).strip("\n").splitlines():
        condition, bar, text = line.partition("|")
        if bar:
            condition = condition.strip()
            number = int(condition.rstrip("+-p").partition(".")[2])
            if not {"+": minor >= number, "-": minor <= number, "p": minor == number and hooks == "profile"}.get(condition[-1], minor == number):
                continue
            line = text[1:]
        found.append(line.rstrip())
    return found
