"""Which functions are traced: what the user asked for, less what cannot bear a hook."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from atf._core.errors import NothingToTrace
from atf.manifest import NATIVE_MODULES as FIRST_MODULE  # Python's modules count from 1
from atf.native import instrumented
from atf.native.demangle import demangle, qualified
from atf.native.elf import AARCH64, IFUNC, ElfFile, Function

UNTOUCHED = re.compile(r"ld-linux[^/]*|ld-musl[^/]*|ld[.-][^/]*\.so[^/]*|libgcc_s\.so[^/]*|libatf_(agent|boot)\.so|(lib)?frida[^/]*|linux-vdso.*|linux-gate.*")
GO = "goroutines' stacks move and are read by Go's own unwinder, which stops at a traced frame: trace its C libraries by --module, and Go by runtime/trace"
ROLES = {
    "_Unwind_RaiseException": 1, "_Unwind_ForcedUnwind": 2, "_Unwind_Resume_or_Rethrow": 3, "_Unwind_Resume": 4, "_Unwind_Backtrace": 5,
    "__cxa_begin_catch": 6, "_Unwind_SetIP": 7,
}  # fmt: skip
ROLES_AARCH64 = {**ROLES, "_Unwind_Find_FDE": 13}
_RULES = (
    (r"_?_?(sig)?(set|long)jmp|__sigsetjmp|_+longjmp\w*|__longjmp_chk|__libc_siglongjmp", "saves or restores a stack: a return hook would not survive it"),
    (r"_?v?fork|__v?fork|__libc_v?fork|_Fork|__clone\d?|clone3?", "returns in two processes"),
    (r"_?_?(get|set|swap|make)context|__start_context|__makecontext", "switches stacks"),
    (r"__restore(_rt)?|__kernel_rt_sigreturn", "signal return: not a function"),
    (
        r"_start|_init|_fini|__libc_csu_(init|fini)|_dl_relocate_static_pie|frame_dummy|(de)?register_tm_clones|__do_global_(d|c)tors_aux|call_weak_fn",
        "startup code",
    ),
)
_NAMED = [(re.compile(pattern), why) for pattern, why in _RULES]
_ANY = re.compile("|".join(pattern for pattern, _ in _RULES))  # most names fit none: one look is enough
_FRAGMENT = re.compile(r"\.cold(\.\d+)?$|\.cold\b")
_UNWINDER = re.compile(r"_Unwind_\w+|uw_\w+|execute_(cfa_program|stack_op)|__(de)?register_frame\w*|__g\w\w_personality_\w+|unwind_phase\w+|__frame_state_for")


class Chosen(NamedTuple):
    """A function that is to be hooked; number: its place among all functions of its file, so that its id does not depend on the filters."""

    vaddr: int
    size: int
    name: str
    linkage: str
    number: int
    role: int = 0
    flags: int = 0  # of the plan: how it was compiled for tracing


@dataclass
class Module:
    """A file of the process, and what of it is traced."""

    path: str
    name: str
    number: int
    build_id: bytes
    size: int
    main: bool = False
    chosen: list[Chosen] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)  # (name, why not), for functions that were asked for
    functions: int = 0
    file: str = ""  # where the controller reads it, where that is another path

    @property
    def id(self) -> int:
        return FIRST_MODULE + self.number

    def function_id(self, chosen: Chosen) -> int:
        return self.id << 32 | chosen.number


class Globs:
    """Globs on ``module::name`` and on ``name``; excluded beats included."""

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()):
        self.include, self.exclude = _one(include), _one(exclude)

    def wants(self, module: str, *names: str) -> bool:
        if self.include is None and self.exclude is None:
            return True
        texts = [text for name in names for text in (name, f"{module}::{name}")]
        if self.exclude is not None and any(map(self.exclude.match, texts)):
            return False
        return self.include is None or any(map(self.include.match, texts))


def _one(globs: Iterable[str]) -> re.Pattern[str] | None:
    patterns = [fnmatch.translate(glob) for glob in globs]
    return re.compile("|".join(patterns)) if patterns else None


def choose(module: Module, file: ElfFile, globs: Globs, least_bytes: int = 5) -> Module:
    """Fill a module in: every function is chosen, refused with a reason, or was not asked for. least_bytes: that a hook takes."""
    functions = file.functions()
    module.functions = len(functions)
    if UNTOUCHED.fullmatch(os.path.basename(module.path)):
        module.refused = [("*", "belongs to the loader, the unwinder or the agent: never hooked")]
        return module
    if file.is_go:
        module.refused = [("*", GO)]
        return module
    unwinder = any(function.name == "_Unwind_RaiseException" for function in functions)
    roles = ROLES_AARCH64 if file.machine == AARCH64 else ROLES
    flags = instrumented.flags_of(file, functions)
    reports = any(flag & instrumented.INSTRUMENTED for flag in flags.values())
    for number, function in enumerate(functions):
        full = demangle(function.name)
        name = qualified(full) if full != function.name else full
        # A role of a file that is no unwinder: linked in statically, so that the agent cannot find it by its library.
        if unwinder and function.name in roles:
            module.chosen.append(Chosen(function.vaddr, function.size, name, function.name, number, roles[function.name]))
        if reports and function.name in instrumented.CYG_ROLES:
            module.chosen.append(Chosen(function.vaddr, function.size, name, function.name, number, instrumented.CYG_ROLES[function.name]))
        if not globs.wants(module.name, name, full):
            continue
        # Where the kernel or the loader begins there is no return address: argc stands in its place.
        why = _NAMED[-1][1] if function.vaddr == file.entry else _why_not(function, unwinder, least_bytes)
        if why:
            module.refused.append((name, why))
        elif not (unwinder and function.name in roles):
            module.chosen.append(Chosen(function.vaddr, function.size, name, function.name, number, 0, flags.get(function.vaddr, 0)))
    return module


def _why_not(function: Function, unwinder: bool, least_bytes: int) -> str:
    if function.kind == IFUNC:
        return "chooses an implementation while the program loads"
    for name in (function.name, *function.aliases):
        if name in instrumented.HOOKS:
            return "called by every function that was compiled for tracing"
        if _FRAGMENT.search(name):
            return "a part of another function"
        if unwinder and _UNWINDER.fullmatch(name):
            return "unwinds the stack"
        if _ANY.fullmatch(name):
            return next(why for pattern, why in _NAMED if pattern.fullmatch(name))
    if function.room < least_bytes:
        return f"shorter than {least_bytes} bytes up to the next code"
    return ""


def require(modules: list[Module], include: Iterable[str], exclude: Iterable[str]) -> None:
    """NothingToTrace, with what to do, when nothing was chosen."""
    if any(not one.role for module in modules for one in module.chosen):
        return
    include, exclude = list(include), list(exclude)
    looked = ", ".join(f"{module.name} ({module.functions} functions)" for module in modules) or "no module"
    if include or exclude:
        said = " ".join([f"--include {glob}" for glob in include] + [f"--exclude {glob}" for glob in exclude])
        advice = f"no function fits {said}: globs are compared with name and module::name, e.g. 'main' or '{modules[0].name if modules else 'prog'}::*'"
    elif whole := next((why for module in modules for name, why in module.refused if name == "*"), None):
        advice = f"none of the functions can be hooked: {whole}"
    elif any(module.refused for module in modules):
        advice = "none of the functions can be hooked: choose another module by --module"
    else:
        advice = "no function was found: the program is stripped of symbols and unwind table; install its debug symbols, or trace a library by --module"
    raise NothingToTrace(f"{advice} (looked at: {looked})")
