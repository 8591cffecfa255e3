"""The doctor's checks against machines that are not as they should be."""

import pytest

from atf.cli import checks


def kernel(tmp_path, shmmax=1 << 62, shmall=1 << 62, shmmni=4096, segments=()):
    for name, value in (("shmmax", shmmax), ("shmall", shmall), ("shmmni", shmmni)):
        (tmp_path / name).write_text(f"{value}\n")
    rows = [f"0 {number} 600 {size} 1 2 3" for number, size in enumerate(segments)]
    (tmp_path / "shm").write_text("\n".join(["key shmid perms size cpid lpid nattch", *rows]) + "\n")
    return {check.name: check for check in checks.shared_memory_limits(str(tmp_path), str(tmp_path / "shm"))}


def test_wide_limits_are_fine(tmp_path):
    assert {check.status for check in kernel(tmp_path).values()} == {"ok"}


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("kernel.shmmax", {"shmmax": 32 << 20}),
        ("kernel.shmall", {"shmall": 2 << 10}),
        ("kernel.shmall", {"shmall": (1 << 30) // 4096, "segments": [900 << 20]}),
        ("kernel.shmmni", {"shmmni": 4, "segments": [1, 1]}),
    ],
)
def test_a_narrow_limit_is_found_with_advice(tmp_path, name, limits):
    found = kernel(tmp_path, **limits)
    assert [check.name for check in found.values() if check.status == "warning"] == [name]
    assert name in found[name].advice


def test_limits_that_cannot_be_read_are_no_fault(tmp_path):
    (check,) = checks.shared_memory_limits(str(tmp_path / "none"), str(tmp_path / "none"))
    assert check.status == "note"


def test_a_module_that_does_not_load_is_a_fault(monkeypatch, tmp_path):
    import atf._core

    (tmp_path / "phantom.pyx").touch()
    monkeypatch.setattr(atf._core, "__path__", [str(tmp_path)])
    (check,) = checks.compiled_modules()
    assert check.status == "fault" and "phantom" in check.found and check.advice


def test_a_missing_package_is_a_fault(monkeypatch):
    monkeypatch.setattr(checks, "REQUIRED", ("surely-not-there",))
    assert next(iter(checks.packages())).status == "fault"
