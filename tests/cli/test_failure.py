"""Every exception becomes an exit code and one line."""

import errno
import os
import subprocess
import sys
import warnings

import pytest

from inkwash.cli.failure import explain
from inkwash.errors import Failed, WrongUse, unknown


class OutOfMemoryError(RuntimeError):
    """Named as torch names it."""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (WrongUse("size 0: at least 8"), 2, "size 0: at least 8"),
        (unknown("system", "ddpn", ["ddpm"]), 2, "unknown system 'ddpn': did you mean 'ddpm'? known: ddpm"),
        (Failed("the loss is\n  not finite"), 1, "the loss is not finite"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "out of memory: try a smaller --batch or --size"),
        (OutOfMemoryError("CUDA out of memory."), 1, "out of memory: try a smaller --batch or --size"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
            1,
            "out of memory: try a smaller --batch or --size",
        ),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a"),
            1,
            "no space left: runs/a: free some and run the same command again",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "runs/a"), 1, "permission denied: runs/a"),
        (KeyError("t"), 1, "KeyError: 't'; set INKWASH_DEBUG=1 for the traceback"),
    ],
)
def test_explain(error, code, line):
    assert explain(error) == (code, line)


@pytest.mark.parametrize("error", [WrongUse("a"), Failed("b"), KeyboardInterrupt(), MemoryError(), ValueError("c")])
def test_no_exception_escapes_and_none_leaves_a_traceback(inkwash, stand_in, error):
    def describing(*_, **__):
        raise error

    stand_in("describe", describing=describing)
    said = inkwash("data", ".", "--json")
    assert (said.code, said.out, said.err.count("\n")) == (explain(error)[0], "", 1)


def test_debug_shows_the_traceback(inkwash, stand_in, monkeypatch):
    monkeypatch.setenv("INKWASH_DEBUG", "1")

    def describing(*_, **__):
        raise ValueError("c")

    stand_in("describe", describing=describing)
    assert "Traceback" in inkwash("data", ".").err


def test_warnings_are_one_line_on_standard_error_and_other_peoples_are_silent(inkwash, stand_in):
    def describing(*_, **__):
        warnings.warn_explicit("bf16 is slow\nhere", UserWarning, "x.py", 1, module="inkwash.training.loop")
        warnings.warn_explicit("internal", UserWarning, "x.py", 1, module="torch.nn")
        raise Failed("end")

    stand_in("describe", describing=describing)
    assert inkwash("data", ".").err == "inkwash: note: bf16 is slow here\ninkwash: end\n"


@pytest.mark.parametrize("verb", ["--help", "doctor"])
def test_a_reader_that_goes_away_is_met_in_silence(verb):
    script = f"import sys; from inkwash.cli import main; sys.exit(main([{verb!r}]))"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait() == 1
