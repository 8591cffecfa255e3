"""Programs that people use, with all of their functions hooked: they say the same, and nearly all functions are in the trace."""

import json
import shutil
import socket
import subprocess
import time

import pytest

from native_bench import manifest_of, needs_agent

pytestmark = needs_agent

ENOUGH = 0.95  # of the functions of a program; the rest stands in the manifest, each with its reason
STATEMENTS = """
create table orders(id integer primary key, customer text, price real);
with recursive n(x) as (select 1 union all select x + 1 from n where x < 5000) insert into orders select x, 'c' || (x % 97), x * 1.5 from n;
create index by_customer on orders(customer);
select customer, count(*), round(sum(price), 2) from orders group by customer order by 3 desc limit 5;
update orders set price = price * 2 where id % 3 = 0;
begin; delete from orders where id > 2500; rollback;
select count(*), max(price), min(customer) from orders;
select json_group_array(id) from (select id from orders where price > 7400 order by id limit 20);
select no_such_column from orders;
"""


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def same(bench, *words, options=(), **more):
    plain = bench.plain(*words, **more)
    ran = bench.record(*words, options=("--json", *options), **more)
    assert (ran.status, ran.out) == (plain.status, plain.out)
    *said, summary = ran.err.splitlines(True)
    assert "".join(said) == plain.err
    native = json.loads(summary)["native"]
    assert native["hooked"] >= ENOUGH * (native["hooked"] + native["refused"]), native["not_hooked"]
    assert len(native["not_hooked"]) == native["refused"]
    assert all(why for _, _, why in native["not_hooked"])
    return ran, native


@needs("sqlite3")
def test_sqlite3_and_its_library(bench):
    options = ["--module", "main", "--module", "libsqlite3*"]
    ran, native = same(bench, "sqlite3", str(bench.path / "shop.db"), options=[*options, "--ring-size", "256M", "--threads", "4"], input=f"drop table if exists orders;{STATEMENTS}")
    assert native["hooked"] > 2500
    trace = ran.trace()
    assert trace.check() == []
    names = {symbol["name"] for symbol in manifest_of(ran)["symbols"]}
    assert {"sqlite3_prepare_v2", "sqlite3_step"} <= names
    # One call for every statement that was prepared by name, and none is left open.
    assert all(span.status == "ok" for span in trace.spans(function="sqlite3_step"))


@needs("sqlite3")
def test_sqlite3_with_every_library(bench):
    words = ["sqlite3", ":memory:", "select sum(x * x) from (with recursive n(x) as (select 1 union all select x + 1 from n where x < 300) select x from n)"]
    plain = bench.plain(*words)
    ran = bench.record(*words, options=("--quiet", "--all-modules", "--ring-size", "256M", "--threads", "4"))
    assert (ran.status, ran.out, ran.err) == (0, plain.out, "")
    modules = {span.function.module for span in ran.trace().spans()}
    assert {"sqlite3", "libc.so.6"} < modules


@needs("git")
def test_git(bench):
    bench.environment.update(GIT_AUTHOR_NAME="A", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="A", GIT_COMMITTER_EMAIL="a@b", GIT_CONFIG_GLOBAL="/dev/null", HOME=str(bench.path))
    bench.environment.update(GIT_AUTHOR_DATE="2024-01-01T00:00:00Z", GIT_COMMITTER_DATE="2024-01-01T00:00:00Z")
    tree = bench.path / "tree"
    tree.mkdir()

    def git(*words):
        return subprocess.run(["git", "-C", str(tree), *words], env=bench.environment, capture_output=True, check=True)

    git("init", "-q")
    for number in range(12):
        (tree / f"file{number % 4}.txt").write_text("".join(f"line {i * number}\n" for i in range(200)))
        git("add", ".")
        git("commit", "-q", "-m", f"change {number}")
    _, native = same(bench, "git", "-C", str(tree), "log", "--stat", "-p", "--graph")
    assert native["hooked"] > 5000
    for words in (["status"], ["diff", "HEAD~5"], ["blame", "file1.txt"], ["show", "nothing"]):
        shutil.rmtree(bench.root)
        same(bench, "git", "-C", str(tree), *words)


@needs("redis-server")
@needs("redis-cli")
def test_redis_server(bench):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", str(bench.path)]
    server = subprocess.Popen(
        bench.command(*words, options=["--json"]), cwd=bench.path, env=bench.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )

    def ask(*command):
        return subprocess.run(["redis-cli", "-p", str(port), *command], capture_output=True, text=True, timeout=20).stdout.strip()

    try:
        until = time.monotonic() + 20
        while ask("ping") != "PONG" and time.monotonic() < until:
            time.sleep(0.05)
        assert ask("set", "a", "1") == "OK"
        assert [ask("incr", "a") for _ in range(3)] == ["2", "3", "4"]
        assert ask("eval", "local t = 0 for i = 1, 100 do t = t + i end return t", "0") == "5050"
        ask("rpush", "l", *map(str, range(100)))
        assert ask("lrange", "l", "98", "-1") == "98\n99"
        ask("zadd", "z", "1", "one", "2", "two")
        assert ask("zrange", "z", "0", "-1") == "one\ntwo"
        assert "ERR" in ask("hget", "only")
        ask("shutdown", "nosave")
        _, err = server.communicate(timeout=30)
    finally:
        server.kill()
        server.communicate()
    assert server.returncode == 0, err
    native = json.loads(err.splitlines()[-1])["native"]
    assert native["hooked"] >= ENOUGH * (native["hooked"] + native["refused"])
    assert native["hooked"] > 3000
