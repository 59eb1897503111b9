"""What a long job looks like, on a terminal and off it."""

import io
import sys

import pytest

from inkwash.api.progress import Progress
from inkwash.cli import progress
from inkwash.cli.progress import clock, follow, pace


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (Progress("train", 120, 1000, rate=3.2, seconds_left=275.0), "120/1000  3.2/s  4:35 left"),
        (Progress("train", 7, None), "7"),
        (Progress("train", 7, 9, rate=0.25, seconds_left=8.0), "7/9  4 s each  0:08 left"),
        (Progress("train", 9, 9, rate=0.25, seconds_left=0.0), "9/9  4 s each"),
    ],
)
def test_pace(report, words):
    assert pace(report) == words


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0:00"), (59.6, "1:00"), (3599.0, "59:59"), (3661.0, "1:01:01")])
def test_clock(seconds, words):
    assert clock(seconds) == words


def test_follow_returns_the_result_of_the_last_report(capsys):
    assert follow(iter([Progress("a", 0, 1), Progress("a", 1, 1, result="there")])) == "there"
    assert capsys.readouterr().out == ""


def test_off_a_terminal_a_line_is_written_every_few_seconds_and_at_every_change(capsys, monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    follow([Progress("train", i + 1, 12, note=f"loss {i}") for i in range(12)] + [Progress("write", 1, 1)] * 2)
    assert capsys.readouterr().err.splitlines() == [
        "train  1/12  loss 0",
        "train  6/12  loss 5",
        "train  11/12  loss 10",
        "train  12/12  loss 11",
        "write  1/1",
    ]


def test_what_libraries_print_stays_out_of_standard_output(capsys):
    def job():
        print("a library talks")
        yield Progress("a", 1, 1)

    follow(job())
    said = capsys.readouterr()
    assert said.out == ""
    assert "a library talks" in said.err


def test_on_a_terminal_there_is_a_bar_with_rate_and_time_left(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    follow(iter([Progress("train", 30, 60, note="[loss] 0.1", rate=2.0, seconds_left=15.0)]))
    assert "train" in screen.getvalue()
    assert "30/60  2/s  0:15 left" in screen.getvalue()
    assert "[loss] 0.1" in screen.getvalue()


def test_a_job_that_is_interrupted_is_closed_at_once():
    closed = []

    def job():
        try:
            yield Progress("a", 0, 2)
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    with pytest.raises(KeyboardInterrupt):
        follow(job())
    assert closed == [True]
