"""What a process says about itself in manifest.json, read so that no lie or damage in it stops the reading of events."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_USER = 0  # module id of the user's own names: spans and events


@dataclass(frozen=True, slots=True)
class Function:
    """A function, span name or event name of one process. Ids are a process's own."""

    id: int
    name: str
    module: str
    file: str
    line: int
    pid: int

    @property
    def qualified(self) -> str:
        """`module.name`, or the name alone where there is no module."""
        return f"{self.module}.{self.name}" if self.module else self.name

    def __str__(self) -> str:
        return self.qualified


@dataclass(slots=True)
class Manifest:
    """data: the JSON object, empty when it could not be read. problems: what was wrong with it, as sentences."""

    pid: int
    data: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    modules: dict[int, str] = field(default_factory=dict)
    paths: dict[int, str] = field(default_factory=dict)
    functions: dict[int, Function] = field(default_factory=dict)
    threads: dict[int, dict[str, Any]] = field(default_factory=dict)
    size_bytes: int = 0

    def function(self, function_id: int) -> Function:
        """The function of an id; one without a name is shown as `module:0x…`."""
        found = self.functions.get(function_id)
        if found is None:
            module, symbol = function_id >> 32, function_id & 0xFFFFFFFF
            name = self.modules.get(module) or str(module)
            found = Function(function_id, f"{name}:0x{symbol:x}", self.modules.get(module, ""), self.paths.get(module, ""), 0, self.pid)
        return found


def _objects(data: dict[str, Any], key: str, problems: list[str]) -> list[dict[str, Any]]:
    value = data.get(key, [])
    if not isinstance(value, list):
        problems.append(f"manifest: {key} is no list")
        return []
    if not all(isinstance(one, dict) for one in value):
        problems.append(f"manifest: {key} has entries that are no objects")
    return [one for one in value if isinstance(one, dict)]


def _number(value: Any) -> int | None:
    if isinstance(value, str):
        try:
            value = int(value, 0)
        except ValueError:
            return None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64 else None


def _whole(value: Any) -> Any:
    """The same with every half of a surrogate pair, by which Python carries bytes that are no UTF-8, replaced: text can be encoded then."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return {_whole(key): _whole(one) for key, one in value.items()} if isinstance(value, dict) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def read_manifest(process_dir: Path, pid: int) -> Manifest:
    """Reads process_dir/manifest.json. Never raises for what is in it; `problems` says what could not be used."""
    manifest = Manifest(pid)
    try:
        text = (process_dir / "manifest.json").read_bytes()
        manifest.size_bytes = len(text)
        data = json.loads(text)
        if b"\\u" in text or b"\xed" in text:  # only so can one stand in it
            data = _whole(data)
    except OSError as why:
        manifest.problems.append(f"manifest: {why.strerror}; names are not known")
        return manifest
    except (ValueError, RecursionError) as why:
        manifest.problems.append(f"manifest: is not JSON ({why}); names are not known")
        return manifest
    if not isinstance(data, dict):
        manifest.problems.append("manifest: is no JSON object; names are not known")
        return manifest
    manifest.data = data
    manifest.pid = _number(data.get("pid")) or pid
    for one in _objects(data, "threads", manifest.problems):
        number = _number(one.get("id"))
        if number is not None:
            manifest.threads[number] = one
    for one in _objects(data, "modules", manifest.problems):
        number = _number(one.get("module_id"))
        if number is not None:
            manifest.paths[number] = _text(one.get("path"))
            manifest.modules[number] = _text(one.get("name")) or Path(manifest.paths[number]).name
    _read_symbols(manifest)
    return manifest


def _read_symbols(manifest: Manifest) -> None:
    bad = 0
    for one in _objects(manifest.data, "symbols", manifest.problems):
        function_id = _number(one.get("function_id"))
        if function_id is None:
            module, symbol = _number(one.get("module_id")), _number(one.get("symbol_index"))
            if module is None or symbol is None or module >= 1 << 32 or symbol >= 1 << 32:
                bad += 1
                continue
            function_id = module << 32 | symbol
        module = function_id >> 32
        module_name = "" if module == _USER else manifest.modules.get(module, "")
        name = _text(one.get("name")) or f"{module_name or module}:0x{function_id & 0xFFFFFFFF:x}"
        file = _text(one.get("file")) or manifest.paths.get(module, "")
        manifest.functions[function_id] = Function(function_id, name, module_name, file, _number(one.get("line")) or 0, manifest.pid)
    if bad:
        manifest.problems.append(f"manifest: {bad} symbols have no usable id")
