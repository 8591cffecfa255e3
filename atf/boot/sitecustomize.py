"""Runs before a recorded program's first line, when ``atf record`` put this directory on PYTHONPATH.

Starts the recording and gets out of the way: the search path is the program's own again, and so is its own
``sitecustomize``, which runs after this one. Whatever goes wrong here is told to the recorder, never to the program.
"""


def _boot() -> None:
    import os
    import sys

    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.normpath(entry) != here]
    session = os.environ.get("ATF_SESSION")
    if not session:
        return
    before = list(sys.path)
    try:
        sys.path.insert(0, os.path.dirname(os.path.dirname(here)))
        with open(os.path.join(session, "config"), encoding="utf-8", errors="surrogateescape") as file:
            config = dict(line.rstrip("\n").partition("=")[::2] for line in file)
        sys.path.extend(entry for entry in config.get("paths", "").split("\x1f") if entry)
        if config.get("children", "1") != "1":
            del os.environ["ATF_SESSION"]
            rest = os.environ.pop("PYTHONPATH", "").split(os.pathsep)[1:]
            if rest:
                os.environ["PYTHONPATH"] = os.pathsep.join(rest)
        from atf import recording, runtime

        config = runtime.read(os.path.join(session, "config"))
        recording.follow(session, config, first=True)  # still with the longer path: it imports sysv_ipc
        sys.path[:] = before
    except Exception as error:
        sys.path[:] = before
        try:
            version = ".".join(map(str, sys.version_info[:3]))
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, ImportError):
                reason = f"atf is not built for Python {version} ({sys.executable}): install it for that interpreter ({error})"
            with open(os.path.join(session, f"{os.getpid()}.error"), "w", encoding="utf-8", errors="replace") as file:
                file.write(f"pid={os.getpid()}\nerror={reason}\n".replace("%", "%25"))
        except OSError:
            pass


def _chain() -> None:
    """The program's own sitecustomize takes this module's place."""
    import importlib.machinery
    import sys

    if importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path) is not None:
        del sys.modules["sitecustomize"]
        __import__("sitecustomize")


try:
    _boot()
finally:
    _chain()
    del _boot, _chain
