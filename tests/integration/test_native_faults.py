"""``atf record`` and ``atf attach`` of compiled programs when the recorder dies, the disk is full, or a place cannot be written."""

import json
import pathlib
import subprocess
import time

import pytest
from live import calls, produced, wait_for
from native_bench import attach_words, calls_of, compile_program, needs_agent, needs_frida, needs_gcc, running

import atf

pytestmark = [needs_gcc, needs_agent]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("programs")
    return lambda name, *flags: compile_program(directory, name, *flags)


def session_of(bench):
    (session,) = bench.root.glob("session_*")
    return session


def recording(bench):
    """Waits until something of a program is in the files."""
    index = wait_for(lambda: next(bench.root.glob("session_*/pid_*/thread_0/index.atf"), None))
    wait_for(lambda: index.stat().st_size > 1000)


@pytest.mark.parametrize("policy", ["block", "drop-oldest"])
def test_the_recorder_is_killed_and_the_program_ends_by_itself(bench, programs, policy):
    """FORBIDDEN: another output, a record that is neither saved nor told as lost."""
    program = programs("loop")
    plain = bench.plain(program, "900", "1000", "5")
    words = bench.command(program, "900", "1000", "5", options=["-q", "--policy", policy])
    with open(bench.path / "out", "wb") as out:
        recorder = subprocess.Popen(words, cwd=bench.path, env=bench.environment, stdout=out)
    recording(bench)
    pid = bench.program_pid()
    recorder.kill()
    recorder.wait()
    wait_for(lambda: not pathlib.Path(f"/proc/{pid}").exists() or "\nState:\tZ" in pathlib.Path(f"/proc/{pid}/status").read_text())
    assert (bench.path / "out").read_text() == plain.out
    said = json.loads(bench.atf("recover", "--json").out)
    assert said["notes"] == []
    assert said["processes"][0]["from_segments"] > 0
    with atf.open(session_of(bench)) as trace:
        assert produced(trace) == 2 * (900 * 11 + 1)
        assert (calls(trace, "middle"), calls(trace, "leaf")) == (900, 9000), "its rings held all of it"
        assert trace.info["lost"] == {}
        assert trace.check() == []


def test_what_the_rings_of_a_killed_recorder_do_not_hold_is_a_gap(bench, programs):
    program = programs("loop")
    plain = bench.plain(program, "15000", "0")
    words = bench.command(program, "15000", "1", options=["-q", "--ring-size", "64K", "--burst-size", "64K"])
    with open(bench.path / "out", "wb") as out:
        recorder = subprocess.Popen(words, cwd=bench.path, env=bench.environment, stdout=out)
    recording(bench)
    pid = bench.program_pid()
    recorder.kill()
    recorder.wait()
    wait_for(lambda: not pathlib.Path(f"/proc/{pid}").exists() or "\nState:\tZ" in pathlib.Path(f"/proc/{pid}/status").read_text(), 60)
    assert (bench.path / "out").read_text() == plain.out
    assert bench.atf("recover").status == 0
    with atf.open(session_of(bench)) as trace:
        assert produced(trace) == 2 * (15000 * 11 + 1)
        assert sum(gap.lost for gap in trace.events(kind="gap")) == sum(trace.info["lost"].values()) > 0
        assert trace.check() == []


@needs_frida
def test_another_attach_after_the_recorder_was_killed(bench, programs):
    """The second one comes in at once; what the first one's rings hold is saved all the same."""
    with running(programs("loop"), "100000", "1000") as process:
        first = subprocess.Popen(attach_words(bench, process.pid, "-q"), cwd=bench.path, env=bench.environment)
        recording(bench)
        busy = bench.plain(*attach_words(bench, process.pid, "--duration", "100ms"))
        assert busy.status == 1
        assert "another recording is active" in busy.err
        first.kill()
        first.wait()
        time.sleep(0.1)
        (early,) = bench.root.glob("session_*")
        again = bench.plain(*attach_words(bench, process.pid, "--duration", "200ms", "--json"))
        assert again.status == 0, again.err
        assert process.poll() is None
        late = next(path for path in bench.root.glob("session_*") if path != early)
        said = json.loads(bench.atf("recover", "--json").out)
        assert said["processes"][0]["from_segments"] > 0
        assert process.poll() is None
    for session in (early, late):
        with atf.open(session) as trace:
            assert set(calls_of(trace)) == {"middle", "leaf"}
            assert trace.info["lost"] == {}
            assert trace.check() == []
    assert not bench.segments()


@pytest.fixture
def small_disk(bench):
    """A file system of 3 MiB where the traces go."""
    bench.root.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(bench.root)], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield bench.root
    subprocess.run(["umount", "-l", str(bench.root)], check=True)


def test_a_full_disk(bench, programs, small_disk):
    """The program does not notice; that something is missing is told."""
    program = programs("loop")
    plain = bench.plain(program, "20000", "0", "3")
    ran = bench.record(program, "20000", "0", "3", options=["--json", "--policy", "block"])
    assert (ran.status, ran.out) == (3, plain.out)
    assert "disk" in ran.err
    assert "Traceback" not in ran.err
    with ran.trace() as trace:
        assert 1000 < produced(trace) < 2 * (20000 * 11 + 1)
        assert trace.info["status"] != "complete" or trace.info["lost"]


def test_places_that_cannot_be_written(bench, programs):
    """One line, no program started, nothing left behind."""
    program = programs("loop")
    marker = bench.path / "ran"
    bench.root.write_text("a file")
    ran = bench.record("/bin/touch", str(marker), options=["-q", "--module", "main"])
    assert ran.status == 1
    assert len(ran.err.splitlines()) == 1
    ran = bench.record(program, "1")
    assert (ran.status, ran.out, len(ran.err.splitlines())) == (1, "", 1), ran.err
    assert "--out" in ran.err
    bench.root.unlink()
    bench.root = pathlib.Path("/proc/nowhere")
    ran = bench.record(program, "1")
    assert (ran.status, ran.out) == (1, "")
    assert "cannot be made" in ran.err
    bench.root = bench.path / "traces"
    assert not marker.exists()
    assert not bench.segments()


def test_a_file_that_is_no_program(bench, programs):
    whole = pathlib.Path(programs("loop")).read_bytes()
    for name, content in (("text", b"hello\n"), ("half", whole[:3000]), ("data", whole)):
        file = bench.path / name
        file.write_bytes(content)
        file.chmod(0o755 if name != "data" else 0o644)
        ran = bench.record(str(file), options=["-q", "--module", "main"])
        assert ran.status in (1, 2), (name, ran.err)
        assert "Traceback" not in ran.err, ran.err
        assert len(ran.err.splitlines()) == 1, ran.err
    assert not bench.segments()
    assert not list(bench.root.glob("session_*"))
