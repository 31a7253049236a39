"""Progress: one line that never wraps on a terminal, and lines elsewhere."""

import io
import re

import pytest

from pipelines.cli.kernel import tracked as track
from stage1_vqvae import progress
from stage1_vqvae.progress import Progress, clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_says_how_far_and_how_long():
    work = Progress("stage 2: prior", 1200, done=200, unit="steps")
    work.note = "loss 0.5"
    assert work.line(10.0) == "stage 2: prior: 200 of 1,200, loss 0.5"
    work.done = 300
    assert work.line(10.0) == "stage 2: prior: 300 of 1,200, 1:30 left, loss 0.5, 10 steps/s"
    work.afterwards = ("stage 2", 300.0)
    assert work.line(10.0).split(", ")[1:3] == ["1:30 left", "about 6:30 with stage 2"]
    assert [clock(seconds) for seconds in (9.4, 65, 7209)] == ["0:09", "1:05", "2:00:09"]


def test_where_there_is_no_terminal_lines_come_at_times(monkeypatch, capsys):
    now = iter(range(0, 1000, 5))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    assert list(track(range(30), "codes")) == list(range(30))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5  # readings of the clock are 5 s apart, and a line is printed at each sixth
    assert all(re.fullmatch(r"codes: \d+ of 30, \d+:\d\d left", line) for line in lines)


@pytest.mark.parametrize("attribute", ["silent", "lines_only"])
def test_no_bar_hides_that_of_another_process(attribute, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr(Progress, attribute, True)
    assert list(track([1], "codes")) == [1]
    assert terminal.getvalue() == ""


def test_a_bar_is_one_line_and_goes(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    for name, value in {"COLUMNS": "80", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    with Progress("stage 1: tokenizer", 10_000, unit="steps") as work:
        work.reach(5000, "loss 1.127, val psnr 5.306, val perplexity 14.42, and more that does not fit in here")
        work._bars.refresh()
    said = terminal.getvalue()
    shown = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]", said)]
    assert any("5000/10000" in line for line in shown)
    assert max(map(len, shown)) <= 80
    assert "\x1b[1A\x1b[2K" in said[-40:]  # the line is taken back
    assert all("5000/10000" in line or not line.strip() or "0/10000" in line for line in shown)  # nothing wrapped
