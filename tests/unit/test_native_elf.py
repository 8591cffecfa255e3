"""What the controller reads of ELF files, against nm, readelf and objdump, and what it makes of names."""

import pathlib
import re
import shutil
import struct
import subprocess
import sys

import pytest

from atf.errors import NothingToTrace, TargetForeign, TargetGone
from atf.native import ehframe
from atf.native.choice import FIRST_MODULE, Globs, Module, choose, require
from atf.native.demangle import demangle, qualified
from atf.native.elf import ElfFile
from atf.native.lines import Lines

needs_tools = pytest.mark.skipif(
    not all(map(shutil.which, ("gcc", "g++", "nm", "readelf", "objdump", "strip"))), reason="compares with gcc's and binutils' tools"
)
PROGRAMS = [path for path in map(shutil.which, ("git", "sqlite3", "redis-server", "bash", "gdb")) if path]
SOURCE = """
#include <string.h>
static int hidden(int x) { __asm__ volatile("nop\\n nop; nop; nop; nop"); return x + 1; }
__attribute__((noinline, cold)) void rare(void) { __asm__ volatile(""); }
__attribute__((weak)) int weak_one(int x) { __asm__ volatile(""); return x; }
int alias_one(int) __attribute__((alias("weak_one")));
int (*keep)(int) = hidden;
__asm__(".globl by_hand\\n.type by_hand, @function\\nby_hand: ret\\n nop\\n nop\\n nop\\n nop\\n nop\\n nop\\n");
__asm__(".globl squeezed\\n.type squeezed, @function\\nsqueezed: ret\\n.globl behind\\n.type behind, @function\\nbehind: xor %eax, %eax\\n nop\\n nop\\n ret\\n nop\\n");
static void *choice(void) { return hidden; }
int chosen(int) __attribute__((ifunc("choice")));
int another(int x) { __asm__ volatile("nop; nop; nop; nop; nop"); return x; }
int __start_context(int) __attribute__((weak, alias("another")));
int main(int argc, char **argv) { if (argc > 99) rare(); return keep(argc) + weak_one(argc) == 2000; }
"""


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """(program, the same stripped)."""
    directory = tmp_path_factory.mktemp("elf")
    (directory / "thing.c").write_text(SOURCE)
    whole, bare = str(directory / "thing"), str(directory / "bare")
    run("gcc", "-O1", "-g", "-fno-inline", "-falign-functions=16", "-Wl,--build-id", str(directory / "thing.c"), "-o", whole)
    run("strip", "-o", bare, whole)
    return whole, bare


def nm_functions(path, *options):
    """{address: {names}} of defined functions, by nm."""
    found = {}
    for line in run("nm", "--defined-only", "--format=sysv", *options, path).splitlines():
        parts = [part.strip() for part in line.split("|")]
        if len(parts) == 7 and (parts[3] == "FUNC" or parts[2] == "i"):
            found.setdefault(int(parts[1], 16), set()).add(parts[0].partition("@")[0])
    return found


@needs_tools
def test_functions_are_those_of_nm(program):
    known = nm_functions(program[0])
    found = {one.vaddr: one for one in ElfFile(program[0]).functions()}
    startup = {address for address, names in known.items() if names & {"_init", "_fini"}}
    assert set(found) == set(known) - startup
    assert all(found[address].name in known[address] for address in found)
    sizes = dict(re.findall(r"^\s*\d+: ([0-9a-f]{16})\s+(\d+) FUNC", run("readelf", "-sW", program[0]), re.M))
    for address, function in found.items():
        size = int(sizes.get(f"{address:016x}", 0))
        assert function.size == size or (size == 0 and function.size > 0)
    by_hand = next(one for one in found.values() if one.name == "by_hand")
    assert by_hand.size >= 7, "it reaches to the next function"
    assert next(one for one in found.values() if one.vaddr in known and "alias_one" in known[one.vaddr]).name == "alias_one", "global before weak"


@needs_tools
@pytest.mark.skipif(not PROGRAMS, reason="no larger program is installed")
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: pathlib.Path(path).name)
def test_exports_and_unwind_table_of_installed_programs(path):
    file = ElfFile(path)
    functions = {one.vaddr: one for one in file.functions()}
    text = [(s.address, s.address + s.size) for s in file.sections if s.flags & 4 and not s.name.startswith((".plt", ".init", ".fini"))]
    exports = {address for address in nm_functions(path, "-D") if any(begin <= address < end for begin, end in text)}
    assert exports <= set(functions)
    frames = re.findall(r"FDE cie=\w+ pc=([0-9a-f]+)\.\.([0-9a-f]+)", run("readelf", "--debug-dump=frames", path))
    begins = {int(begin, 16) for begin, _ in frames}
    unnamed = {address for address, one in functions.items() if not one.named}
    assert unnamed <= begins
    assert len(begins - set(functions)) <= len(begins) // 5, "pieces that begin with a frame of their function"
    ends = {int(begin, 16): int(end, 16) for begin, end in frames}
    assert all(ends[address] == address + functions[address].size for address in unnamed)
    assert file.build_id.hex() in run("readelf", "-n", path)
    assert file.needed == re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", path))
    assert file.interpreter is not None
    assert not file.is_static


@needs_tools
def test_a_stripped_program_shows_nearly_the_same_functions(program):
    whole = {one.vaddr: one for one in ElfFile(program[0]).functions()}
    bare = {one.vaddr: one for one in ElfFile(program[1]).functions()}
    framed = {address for address, one in whole.items() if one.name not in ("by_hand", "squeezed", "behind", "_start") and "clones" not in one.name and "dummy" not in one.name}
    framed -= {address for address, one in whole.items() if one.name == "__do_global_dtors_aux"}
    assert framed == set(bare), "hand-written code has no frames, and _start no caller"
    assert all(one.name == f"sub_{one.vaddr:x}" and one.size == whole[one.vaddr].size for one in bare.values())


@needs_tools
def test_what_is_never_hooked(program):
    file = ElfFile(program[0])
    module = choose(Module(program[0], "thing", 3, b"", 0), file, Globs())
    why = dict(module.refused)
    assert why["_start"] == "startup code"
    assert "implementation" in why["chosen"]
    assert "switches stacks" in why["another"], "by whichever of its names"
    assert {one.name for one in module.chosen} >= {"main", "hidden", "rare", "by_hand"}
    assert all(one.name != "squeezed" for one in module.chosen)
    assert "next code" in why["squeezed"], "a jump would reach into the code behind it"
    assert [one.vaddr for one in module.chosen] == sorted({one.vaddr for one in module.chosen})
    main = next(one for one in module.chosen if one.name == "main")
    assert module.function_id(main) == (FIRST_MODULE + 3) << 32 | main.number
    assert file.functions()[main.number].name == "main"
    filtered = choose(Module(program[0], "thing", 3, b"", 0), file, Globs(["main"]))
    assert filtered.chosen == [main], "an id does not depend on the filters"
    bare = choose(Module(program[1], "bare", 0, b"", 0), ElfFile(program[1]), Globs())
    assert ElfFile(program[1]).entry not in {one.vaddr for one in bare.chosen}
    source = pathlib.Path(program[0] + "_begin.c")
    source.write_text("void begin(void) { for (;;) ; }\nvoid other(void) { __asm__ volatile(\"nop; nop; nop; nop; nop\"); }\n")
    begin = str(source.with_suffix(""))
    run("gcc", "-O1", "-nostdlib", "-Wl,-e,begin", "-falign-functions=16", str(source), "-o", begin)
    assert [one.name for one in choose(Module(begin, "begin", 0, b"", 0), ElfFile(begin), Globs()).chosen] == ["other"], "whatever it is called"
    loader = ElfFile(program[0]).interpreter
    assert choose(Module(loader, "ld", 0, b"", 0), ElfFile(loader), Globs()).chosen == []


@needs_tools
def test_lines(program):
    pytest.importorskip("elftools")
    functions = {one.name: one.vaddr for one in ElfFile(program[0]).functions()}
    lines = pathlib.Path(program[0] + ".c").read_text().splitlines()
    found = Lines(program[0]).of([functions["main"], functions["hidden"], functions["_start"]])
    assert set(found) == {functions["main"], functions["hidden"]}
    file, line = found[functions["hidden"]]
    assert file.endswith("thing.c")
    assert "hidden(int x)" in lines[line - 1]
    assert Lines(program[1]).of([functions["main"]]) == {}


def test_globs():
    globs = Globs(["app::*", "ma?n"], ["*::secret*"])
    assert globs.wants("app", "run")
    assert not globs.wants("lib", "run")
    assert globs.wants("lib", "main")
    assert not globs.wants("app", "secret_key")
    assert Globs().wants("x", "y")
    assert Globs(["Shop::add(int)"]).wants("app", "Shop::add", "Shop::add(int)")
    with pytest.raises(NothingToTrace, match="--include nope"):
        require([Module("/x", "x", 0, b"", 0)], ["nope"], [])
    with pytest.raises(NothingToTrace, match="debug symbols"):
        require([Module("/x", "x", 0, b"", 0)], [], [])


@pytest.mark.parametrize(
    ("full", "short"),
    [
        ("main", "main"),
        ("Shop::add(Item const&) const", "Shop::add"),
        ("std::vector<int, std::allocator<int> >::push_back(int const&)", "std::vector<int, std::allocator<int> >::push_back"),
        ("int shop::twice<int>(int)", "shop::twice<int>"),
        ("shop::Basket::operator()(int) const", "shop::Basket::operator()"),
        ("std::ostream& operator<< <char>(std::ostream&, char)", "operator<< "),
        ("A::operator bool() const", "A::operator bool"),
        ("operator new(unsigned long)", "operator new"),
        ("(anonymous namespace)::hidden(int)", "(anonymous namespace)::hidden"),
        ("f(int)::{lambda(int)#1}::operator()(int) const", "f(int)::{lambda(int)#1}::operator()"),
        ("void apply<void (*)(int)>(void (*)(int))", "apply<void (*)(int)>"),
        ("A::operator->() const", "A::operator->"),
        ("bool A::operator<(A const&) const", "A::operator<"),
    ],
)
def test_qualified_names(full, short):
    assert qualified(full).startswith(short.split("<<")[0])
    if "<<" not in short:
        assert qualified(full) == short


@pytest.mark.parametrize(
    ("mangled", "text"),
    [
        ("_ZN4shop6Basket3addERKNS_4ItemE", "shop::Basket::add(shop::Item const&)"),
        ("_ZN5hello4main17h0123456789abcdefE", "hello::main"),
        ("_ZN49_$LT$hello..Thing$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE", "<hello::Thing as core::fmt::Debug>::fmt"),
        ("_RNvCs1234_7mycrate3foo", "mycrate::foo"),
        ("_RNvNtCs1234_7mycrate3bar3baz", "mycrate::bar::baz"),
        ("_RNvMCs1234_7mycrateNtB2_3Foo3new", "<mycrate::Foo>::new"),
        ("_RINvCs1234_7mycrate3foohE", "mycrate::foo::<u8>"),
        ("_RNCNvCs1234_7mycrate4main0B3_", "mycrate::main::{closure#0}"),
        ("_RNvXCs1234_7mycrateNtB2_3FooNtB2_3Bar3run", "<mycrate::Foo as mycrate::Bar>::run"),
        ("_RNvXs_Cs1234_7mycrateReNtB4_3Bar3run", "<&str as mycrate::Bar>::run"),
        ("plain_c", "plain_c"),
        ("_Znonsense", "_Znonsense"),
        ("_Rnonsense", "_Rnonsense"),
        ("_ZN3foo3barEv.cold", "foo::bar() [cold]"),
    ],
)
def test_demangling(mangled, text):
    assert demangle(mangled) == text


@pytest.mark.skipif(shutil.which("rustc") is None, reason="compiles a small program with rustc")
@pytest.mark.parametrize("mangling", ["v0", "legacy"])
def test_rust_names(tmp_path, mangling):
    source = tmp_path / "hello.rs"
    source.write_text("mod deep { pub fn inner<T: Copy>(t: T) -> T { t } pub struct S; impl S { #[inline(never)] pub fn go(&self) {} } }\n"
                      "fn main() { deep::S.go(); println!(\"{}\", deep::inner(1u8)); }\n")  # fmt: skip
    flags = ["-C", f"symbol-mangling-version={mangling}"] + (["-Z", "unstable-options"] if mangling == "legacy" else [])
    done = subprocess.run(["rustc", *flags, "-C", "opt-level=0", str(source), "-o", str(tmp_path / "hello")], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this rustc does not know {mangling}")
    names = {demangle(one.name) for one in ElfFile(str(tmp_path / "hello")).functions()}
    assert "hello::main" in names
    assert {"hello::deep::S::go", "<hello::deep::S>::go"} & names
    assert {"hello::deep::inner", "hello::deep::inner::<u8>"} & names


def test_damaged_files_are_refused_or_read_as_far_as_they_go(tmp_path):
    whole = pathlib.Path(sys.executable).resolve().read_bytes()[: 1 << 16]
    path = tmp_path / "broken"
    with pytest.raises(TargetGone):
        ElfFile(str(path))
    for content, said in ((b"", "empty"), (b"#!/bin/sh\n" * 10, "not an ELF"), (whole[:60], "not an ELF"), (whole[:2000], "damaged")):
        path.write_bytes(content)
        with pytest.raises(TargetForeign, match=said):
            file = ElfFile(str(path))
            file.functions()


def test_damaged_unwind_tables_end_the_walk():
    common = struct.pack("<II", 0x14, 0) + b"\x01zR\0\x01\x78\x10\x01\x1b\x0c\x07\x08\x90\x01\0\0"
    entry = struct.pack("<IIiI", 0x10, 0x1C, 0x100 - 0x20, 0x40) + b"\0\0\0\0"
    assert list(ehframe.entries(common + entry, 0x1000)) == [(0x1100, 0x40)]
    for cut in range(len(common + entry)):
        assert list(ehframe.entries((common + entry)[:cut], 0x1000)) in ([], [(0x1100, 0x40)])
    moved = struct.pack("<IIiI", 0x10, 0x1C, 0x100 - 0x20, 0x40) + b"\0\x0e\x10\0"
    assert list(ehframe.entries(common + moved, 0x1000)) == [], "the rest of another function"
    beginning = struct.pack("<IIiI", 0x10, 0x1C, 0x100 - 0x20, 0x40) + b"\0\x07\x10\0"
    assert list(ehframe.entries(common + beginning, 0x1000)) == [], "where a program begins"


@needs_tools
def test_a_name_that_is_no_function_bounds_the_one_before(tmp_path):
    """Hand-written code is called by labels too: four bytes behind a function begins other code, whatever that is called."""
    (tmp_path / "hand.s").write_text(
        ".text\n.globl before\n.type before, @function\nbefore: mov %edi, %eax\nret\nnop\n.size before, 3\n.globl label\nlabel: mov $1, %eax\nret\n"
        ".globl thing\n.data\nthing: .quad 0\n.section .note.GNU-stack,\"\",@progbits\n"
    )
    run("gcc", "-shared", "-nostdlib", str(tmp_path / "hand.s"), "-o", str(tmp_path / "hand.so"))
    for options in ((), ("-s",)):
        run("strip", *options, "-o", str(tmp_path / "hand2.so"), str(tmp_path / "hand.so")) if options else shutil.copy(tmp_path / "hand.so", tmp_path / "hand2.so")
        file = ElfFile(str(tmp_path / "hand2.so"))
        assert [(function.name, function.size, function.room) for function in file.functions()] == [("before", 3, 4)]
        module = choose(Module("hand2.so", "hand2.so", 1, b"", 0), file, Globs())
        assert module.refused == [("before", "shorter than 5 bytes up to the next code")]
