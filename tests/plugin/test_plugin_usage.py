"""What cannot be used is said before any test runs, with what is there."""

import types

import pytest

from atf.pytest_plugin import filters, options

SETTINGS = options.Settings("off", False, "", None, (), "returns", None, 40, "off", 0)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--atf-level=loud"], "there is no level 'loud'; choose from calls, returns"),
        (["--atf-tail=many"], "--atf-tail: 'many' is not a number"),
        (["--atf-max-files=-1"], "--atf-max-files: '-1' is not a number"),
        (["--atf-ring=huge"], "--atf-ring: size 'huge': write it like"),
        (["-o", "atf_mode=sometimes"], "atf_mode in the ini file: there is no mode 'sometimes'; choose one of off, on, retain-on-failure"),
    ],
)
def test_options(suite, asked, said):
    with pytest.raises(pytest.UsageError) as refused:
        suite.pytester.parseconfig("-p", "atf.pytest_plugin", *asked)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("mode='loud'", "@pytest.mark.atf(mode=): there is no mode 'loud'; choose one of off, on"),
        ("'on'", "arguments are given by name: mode, include"),
        ("modes='on'", "there is no argument 'modes'; there are mode, include"),
        ("include=3", "module name globs like 'shop.*', not 3"),
        ("level='c,x'", "there is no level 'c,x'"),
        ("max_calls='few'", "'few' is not a number"),
        ("max_duration=0", "0 is not a time; write seconds"),
    ],
)
def test_markers(marker, said):
    class Item:
        nodeid = "test_it.py::test_a"

        def iter_markers(self, name):
            return [eval(f"mark({marker})", {"mark": lambda *args, **kwargs: types.SimpleNamespace(args=args, kwargs=kwargs)})]

    with pytest.raises(pytest.UsageError) as refused:
        options.of_marker(SETTINGS, Item())
    assert said in str(refused.value) and "test_it.py::test_a: @pytest.mark.atf" in str(refused.value)


def test_exit_status(suite):
    suite.pytester.makepyfile("import shop, pytest\n@pytest.mark.atf(include='shpo')\ndef test_a(): pass\ndef test_b(): pass")
    result = suite.run("--atf=loud")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--atf=on/--atf=retain-on-failure*'loud'*"])
    result = suite.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*test_exit_status.py::test_a: @pytest.mark.atf(include=): no module fits 'shpo'. This project's modules: shop, test_exit_status"])
    result = suite.run("--atf", "--atf-include=shop.carts.*", "-k", "test_b")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--atf-include: no module fits 'shop.carts.[*]'.*shop, *"])
    result = suite.run("-n1", "--atf", "-k", "test_a", plugins=["xdist"])
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*no module fits 'shpo'*"])


def test_globs():
    """Modules that a test may import later are there too."""
    for pattern in ("json", "json.*", "json.decoder", "email.mime.*", "*", "atf.pytest_*", "js?n"):
        filters.check([pattern], "x", "/nowhere")
    for pattern in ("jsn", "json.nothing", "sh[ou]p.*", "nothing.*"):
        with pytest.raises(pytest.UsageError, match="no module fits"):
            filters.check([pattern], "x", "/nowhere")


def test_what_is_left_out_by_default(tmp_path):
    (tmp_path / "src" / "yaml").mkdir(parents=True)
    (tmp_path / "json.py").touch()
    found = filters.excluded(str(tmp_path), None, ("shop.slow",))
    assert {"_pytest", "pluggy", "threading", "xdist", "shop.slow"} <= set(found)
    assert not {"json", "yaml", "atf", "tests", "conftest"} & set(found)
    assert filters.excluded("", ("shop",), ()) == ()
    assert "_pytest" in filters.excluded("", ("*",), ())
    assert "_pytest" not in filters.excluded("", ("_pytest.*",), ())
