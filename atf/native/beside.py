"""``atf record --native``: Python processes whose native code is recorded too, in the same lanes.

A Python process announces itself as ever, and waits. Its recorder looks at what is mapped there and what can be imported, writes
the plan, and the process starts the agent by it before its first event (``join.py``).
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from atf._core import segment
from atf._core.errors import AtfError, UsageError
from atf.gather import Gatherer
from atf.native import injector
from atf.native.choice import Module
from atf.native.details import ENTRY_ONLY
from atf.native.modules import _fits, choose_modules, of_process
from atf.native.names import Places, name_entries
from atf.native.plan import LIVE, Plan
from atf.native.process import NativeProcess
from atf.recorded import Process
from atf.supervise import Supervisor

if TYPE_CHECKING:
    from atf.flight import Flight

# Functions that the interpreter calls the hooks through: their frames end before the Python call does that was told meanwhile.
_AROUND_HOOKS = re.compile(
    r"(_Py_call_instrumentation\w*|call_instrumentation\w*|call_one_instrument|do_monitor_exc|monitor_\w+|_PyEval_Monitor\w*"
    r"|call_trace\w*|call_exc_trace|call_trampoline|maybe_call_line_trace|trace_function_(entry|exit)|trace_trampoline|profile_trampoline"
    r"|dtrace_function_\w+)(\..*)?"
)
_LOOP = "_PyEval_EvalFrameDefault"
ProcessType = TypeVar("ProcessType", bound=Process)


class BesideProcess(NativeProcess):
    """A Python process with the agent in it: names come from its log and from its plan."""

    def gone(self) -> bool:
        return Process.gone(self)

    def take_names(self) -> bool:
        if self.flight is not None and self.plan is not None and not self._told:
            self._told = True
            self.flight.named(self.source, name_entries(self.plan.modules), 0)  # Python's come by and by
        return Process.take_names(self)

    def keep_what_occurs(self, places: Places | None = None) -> None:
        if self.plan is None:  # Python alone
            Process.keep_what_occurs(self)
        else:
            super().keep_what_occurs(places)


class BesideGatherer(Gatherer):
    """A gatherer that writes a plan for every process that waits for one."""

    def __init__(self, output: str, session: str | None, level: str, choice: Choice, flight: Flight | None = None):
        super().__init__(output, session, level, flight=flight)
        self.choice = choice

    def take_in(
        self, values: dict[str, Any], segments: segment.SegmentSet, directory: str | None = None, kind: Callable[..., ProcessType] | None = None
    ) -> ProcessType:
        waits = values.get("beside") == "1"
        process = super().take_in(values, segments, directory, BesideProcess if waits else kind)
        if isinstance(process, BesideProcess):
            self._answer(process, values)
        return process  # type: ignore[return-value]

    def _answer(self, process: BesideProcess, values: dict[str, Any]) -> None:
        """The plan appears whole under its name; or a word that none will come."""
        stem = str(values["file"]).removesuffix(".process")
        try:
            modules = self.choice.of(process.pid, values)
            plan = Plan(stem + ".making", modules, process.segments.ids, LIVE | (ENTRY_ONLY if self.level == "calls" else 0))
            process.name_everything(plan)
            process.write_manifest("recording")
            os.rename(plan.path, stem + ".plan")
            plan.path = stem + ".plan"
        except (AtfError, OSError) as error:
            self.complain(f"process {process.pid} is recorded in Python alone: {error}")
            with open(stem + ".alone", "w"):
                pass

    def complete(self, key: str, dead: bool, status: str = "complete") -> None:
        process = self.live[key]
        super().complete(key, dead, status)
        if isinstance(process, BesideProcess) and process.plan is not None:
            try:
                process.plan.require_started()
                process.keep_what_occurs()
            except AtfError as error:
                self.complain(f"process {process.pid} is recorded in Python alone: {error}")


class Choice:
    """Which native functions of a Python process are recorded. wanted: as for choose_modules, and names of extension modules.

    include, exclude: globs on ``module::name``.
    """

    def __init__(self, wanted: Iterable[str], include: Iterable[str] = (), exclude: Iterable[str] = ()):
        self.wanted, self.include, self.exclude = list(wanted), list(include), list(exclude)
        self._known: dict[tuple[str, ...], list[Module]] = {}  # processes of one session run the same interpreter, mostly
        self._extensions: dict[str, list[tuple[str, str]]] = {}
        self._own = os.path.realpath(os.path.dirname(segment.__file__))

    def of(self, pid: int, values: dict[str, Any]) -> list[Module]:
        """The modules of one process, from what it announced. UsageError, NothingToTrace, TargetGone."""
        files = [path for path in of_process(pid) if os.path.realpath(os.path.dirname(path)) != self._own]
        words, more = [], []
        for word in self.wanted:
            found = [] if word in ("main", "*") or "/" in word else self._named(word, values)
            if found:
                more += found
            if not found or any(_fits(path, word) for path in files):
                words.append(word)
        if "*" in self.wanted:
            more += [path for _, path in self._standard(values)]
        more = [path for path in dict.fromkeys(more) if path not in files]
        key = (*files, "", *more)
        if key not in self._known:
            modules = choose_modules(files[0], [*files[1:], *more], [*words, *more], self.include, self.exclude)
            for module in modules:
                _leave_out_what_calls_hooks(module)
            self._known[key] = modules
        return self._known[key]

    def _named(self, word: str, values: dict[str, Any]) -> list[str]:
        """Extension modules that could be imported, by a glob on their dotted name or the last part of it."""
        fits = []
        for root in _search(values):
            for name, path in self._under(root):
                if fnmatch.fnmatchcase(name, word) or fnmatch.fnmatchcase(name.rpartition(".")[2], word):
                    fits.append(path)
        return fits

    def _standard(self, values: dict[str, Any]) -> list[tuple[str, str]]:
        return [one for root in _search(values) if os.path.basename(root) == "lib-dynload" for one in self._under(root)]

    def _under(self, root: str) -> list[tuple[str, str]]:
        if root not in self._extensions:
            found = []
            for place, directories, names in os.walk(root):
                directories[:] = [name for name in directories if name.isidentifier() and name != "__pycache__"]
                if os.path.realpath(place) == self._own:
                    continue
                inside = os.path.relpath(place, root).replace(os.sep, ".").strip(".")
                for name in names:
                    if name.endswith(".so"):
                        stem = name.partition(".")[0]
                        found.append((f"{inside}.{stem}" if inside else stem, os.path.realpath(os.path.join(place, name))))
            self._extensions[root] = found
        return self._extensions[root]


def _search(values: dict[str, Any]) -> list[str]:
    """Where the process imports from. The script's own directory is not on its path yet when it announces itself."""
    here = str(values.get("directory_now", ""))
    words = [word for word in str(values.get("argv", "")).split("\x1f") if word.endswith(".py")]
    places = [os.path.dirname(os.path.join(here, word)) for word in words[:1]] or [here]
    places += [os.path.join(here, place) for place in str(values.get("search", "")).split("\x1f") if place]
    whole = os.path.realpath(os.sep)
    return [place for place in dict.fromkeys(map(os.path.realpath, places)) if os.path.isdir(place) and place != whole]


def _leave_out_what_calls_hooks(module: Module) -> None:
    if not any(one.name == _LOOP for one in module.chosen) and not module.name.startswith(("python", "libpython")):
        return
    why = "calls the recorder's hooks: it is over before the Python call that they tell of"
    around = [one for one in module.chosen if _AROUND_HOOKS.fullmatch(one.name)]
    module.refused += [(one.name, why) for one in around]
    module.chosen = [one for one in module.chosen if one not in around]


def split_globs(globs: Iterable[str]) -> tuple[list[str], list[str]]:
    """Globs on Python modules, and those on native functions: they have a ``::``."""
    every = list(globs)
    return [glob for glob in every if "::" not in glob], [glob for glob in every if "::" in glob]


class BesideSupervisor(Supervisor):
    """One run of a Python program under both kinds of recording. config's include and exclude are Python's."""

    def __init__(self, command: list[str], out: str, config: dict[str, str], choice: Choice, flight: Flight | None = None):
        if not choice.wanted:
            raise UsageError("--native: say which native code, e.g. --module _json (an extension module), --module 'libz.so*', or --all-modules")
        self._choice = choice
        super().__init__(command, out, {**config, "native": "1", "agent": injector.agent_file()}, flight)

    def _gatherer(self, level: str, flight: Flight | None) -> Gatherer:
        return BesideGatherer(self.path, self.session, level, self._choice, flight)

    @property
    def process(self) -> BesideProcess | None:
        """The first process that had a plan."""
        processes = [*self.gatherer.done, *self.gatherer.live.values()]
        return next((one for one in processes if isinstance(one, BesideProcess) and one.plan is not None), None)
