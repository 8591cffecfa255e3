"""Programs that people use, with every function of every library hooked: they do and say the same, as they come and without libc's names."""

import json
import shutil
import subprocess
import time

import pytest

from native_bench import needs_agent

pytestmark = needs_agent

ENOUGH = 0.95  # of the functions of all modules
STATEMENTS = """
create table author(id integer primary key, name text unique);
create table book(id integer primary key, author int references author, title text, price real check(price >= 0));
create table log(line text);
create trigger sold after delete on book begin insert into log values('sold ' || old.title); end;
with recursive n(x) as (select 1 union all select x + 1 from n where x < 40) insert into author select x, 'author ' || x from n;
with recursive n(x) as (select 1 union all select x + 1 from n where x < 300) insert into book select x, x % 40 + 1, 'title ' || (x * 7919 % 300), x / 3.0 from n;
create index by_author on book(author, price desc);
select a.name, count(*), round(avg(b.price), 3) from author a join book b on b.author = a.id group by a.id having count(*) > 7 order by 3 desc limit 4;
delete from book where id % 90 = 0;
select * from log;
insert into author(name) values('author 1');
insert into book(price) values(-1);
select json_group_array(title) from (select title from book where title like '%99' order by title);
select strftime('%Y-%m-%d', 86400 * 365, 'unixepoch'), hex(zeroblob(2)), printf('%08.3f|%-5s|%x', 3.14159, 'ab', 255);
explain query plan select * from book where author = 3 and price < 10;
vacuum;
pragma integrity_check;
select no_such_column from book;
"""
FTS = "create virtual table words using fts5(text); insert into words select 'row ' || value || ' ' || (value * value) from json_each('[1,2,3,4,5,6]'); select * from words where words match '16 OR 25';"


def needs(*programs):
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(params=["as it comes", "libc without names"])
def libc(bench, request):
    """A libc without build id has no debug file: only what it exports has a name, all else is found by the unwind table."""
    if request.param == "libc without names":
        if not shutil.which("objcopy"):
            pytest.skip("objcopy is not installed")
        listed = subprocess.run(["ldd", shutil.which("cat")], capture_output=True, text=True).stdout
        path = next((line.split()[2] for line in listed.splitlines() if "libc.so.6 =>" in line), None)
        if path is None:
            pytest.skip("no libc.so.6")
        directory = bench.path / "lib"
        directory.mkdir()
        subprocess.run(["objcopy", "--strip-all", "--remove-section", ".note.gnu.build-id", path, str(directory / "libc.so.6")], check=True)
        bench.environment["LD_LIBRARY_PATH"] = str(directory)
    return request.param


def hooked_enough(native, what):
    total = native["hooked"] + native["refused"]
    print(f"{what}: {native['hooked']} of {total} functions ({native['hooked'] / total:.1%})")
    assert native["waiting"] == 0
    assert native["hooked"] >= ENOUGH * total, native["not_hooked"]
    assert len(native["not_hooked"]) == native["refused"]
    assert all(why and not why.startswith("reason") for _, _, why in native["not_hooked"])


def same(bench, *words, options=("--all-modules",), **more):
    plain = bench.plain(*words, **more)
    ran = bench.record(*words, options=("--json", "--ring-size", "1M", "--burst-size", "8M", *options), **more)
    assert (ran.status, ran.out) == (plain.status, plain.out), ran.err
    *said, summary = ran.err.splitlines(True)
    assert "".join(said) == plain.err
    hooked_enough(json.loads(summary)["native"], f"{words[0]} {' '.join(options)}")
    shutil.rmtree(bench.root)
    return ran


@needs("sqlite3")
def test_sqlite3(bench, libc):
    options = subprocess.run(["sqlite3", ":memory:", "pragma compile_options"], capture_output=True, text=True).stdout
    statements = STATEMENTS + (FTS if "FTS5" in options else "")
    ran = same(bench, "sqlite3", ":memory:", input=statements)
    assert "UNIQUE constraint failed" in ran.err
    assert "ok\n" in ran.out


@needs("git")
def test_git(bench, libc):
    person = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "A"), ("EMAIL", "a@b"), ("DATE", "2024-01-01T00:00:00Z"))}
    bench.environment.update(person, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1", HOME=str(bench.path))
    tree, other = bench.path / "tree", bench.path / "other"
    # What changes something runs twice, without and with, each in a tree of its own: the same objects come out.
    heads = []
    for place in (tree, other):
        place.mkdir()

        def git(*words, place=place, recorded=False):
            command = ["git", "-C", str(place), *words]
            done = bench.record(*command, options=("--quiet", "--all-modules", "--ring-size", "1M", "--burst-size", "8M")) if recorded else bench.plain(*command)
            assert done.status == 0, done.err
            return done.out.replace(str(place), "")

        git("init", "-q", "-b", "main")
        for change in ("first", "second"):
            for file in range(3):
                (place / f"file{file}.txt").write_text("".join(f"{change} {i * file}\n" for i in range(150)))
            git("add", ".")
            said = git("commit", "-m", change, recorded=place is other and change == "second")
        heads.append((said, git("rev-parse", "HEAD"), git("ls-tree", "HEAD")))
    assert heads[0] == heads[1]
    shutil.rmtree(bench.root)
    same(bench, "git", "-C", str(tree), "log", "--stat", "-p", "--graph")
    if libc == "as it comes":
        same(bench, "git", "-C", str(tree), "repack", "-adq", options=("--module", "main"))
        return
    same(bench, "git", "-C", str(tree), "blame", "file1.txt")
    same(bench, "git", "-C", str(tree), "diff", "HEAD~1")
    same(bench, "git", "-C", str(tree), "fsck", "--full", "--strict")
    same(bench, "git", "-C", str(tree), "pack-objects", "--all", "--stdout", "-q", input="", encoding="latin-1")


@needs("redis-server", "redis-cli", "redis-benchmark")
def test_redis_server(bench):
    socket = str(bench.path / "s")
    words = ["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", str(bench.path)]
    options = ["--json", "--all-modules", "--ring-size", "1M", "--burst-size", "8M"]
    server = subprocess.Popen(bench.command(*words, options=options), cwd=bench.path, env=bench.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def ask(*command):
        return subprocess.run(["redis-cli", "-s", socket, *command], capture_output=True, text=True, timeout=20).stdout.strip()

    try:
        until = time.monotonic() + 20
        while ask("ping") != "PONG" and time.monotonic() < until:
            time.sleep(0.05)
        assert ask("eval", "local t = 0 for i = 1, 100 do t = t + i end return t", "0") == "5050"
        ask("xadd", "stream", "1-1", "k", "v")
        assert ask("xrange", "stream", "-", "+") == "1-1\nk\nv"
        ask("zadd", "z", "1", "one", "2", "two")
        assert ask("zrevrange", "z", "0", "-1") == "two\none"
        assert ask("setrange", "text", "3", "abc") == "6"
        assert ask("pfadd", "hll", "a", "b") == "1"
        done = subprocess.run(
            ["redis-benchmark", "-s", socket, "-n", "500", "-c", "10", "-q", "-t", "set,get,lpush,lrange_100,mset"], capture_output=True, text=True, timeout=40
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("requests per second") >= 5
        assert ask("save") == "OK"
        ask("shutdown", "nosave")
        _, err = server.communicate(timeout=30)
    finally:
        server.kill()
        server.communicate()
    assert server.returncode == 0, err
    hooked_enough(json.loads(err.splitlines()[-1])["native"], "redis-server --all-modules")


@needs("bash")
def test_a_shell_that_has_an_environment_of_its_own(bench):
    """bash has functions called getenv and unsetenv: its children must not find the agent's words all the same."""
    same(bench, "bash", "--norc", "-c", "echo got $ATF_AGENT $LD_PRELOAD; env -i /bin/echo 1; for i in 1 2; do echo $((i * i)) | cat; done; exit 3")
