"""Printing never ends a command."""

import io
import os
import signal
import sys
import time

import pytest
from rich.table import Table

from pipelines.cli.console import console
from pipelines.cli.output import lasting_output
from pipelines.cli.signals import SIGNALS, stoppable
from pipelines.run import main
from tests.support.commands import run_forked, start_forked
from tests.support.tiny import TINY


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", "+ done * 3x4 - u ... ? a->b"),
        ("latin-1", "+ done * 3×4 - ü ... ? a->b"),
        ("utf-8", "✓ done • 3×4 – ü … 龍 a→b"),
    ],
)
def test_a_stream_gets_the_characters_that_it_takes(encoding, expected, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with lasting_output():
        print("✓ done • 3×4 – ü … 龍 a→b")
        table = Table("✓", "größe")
        table.add_row("•", "×")
        console.print(table)
    assert sys.stdout is stream
    stream.flush()
    first = stream.buffer.getvalue().decode(encoding).splitlines()[0]
    assert first == expected


def test_a_closed_stream_is_left(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    monkeypatch.setattr(sys, "stdout", stream)
    with lasting_output():
        for _ in range(3):
            print("nobody reads this", flush=True)
        console.print("[green]✓[/] nor this")
    stream.close()  # what it still held goes nowhere
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with lasting_output():
        print("nor this")
    monkeypatch.setattr(sys, "stdout", None)  # as of a process that started without one
    with lasting_output():
        print("nor this")
        console.print("nor this")
    assert sys.stdout is None


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "a closed pipe"])
def test_a_run_ends_well_whatever_its_output_takes(encoding, tmp_path):
    words = [*TINY, "output=made", f"data.cache={tmp_path}"]
    if encoding == "a closed pipe":
        read, write = os.pipe()
        os.close(read)
        code = run_forked(main, words, tmp_path, write)
        os.close(write)
    else:
        with (tmp_path / "said").open("wb") as file:
            code = run_forked(main, words, tmp_path, file.fileno(), encoding)
        assert "+ prior" in (tmp_path / "said").read_text(encoding)
    assert code == 0
    assert (tmp_path / "made" / "report.html").exists()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_in_one_line_and_its_code(number, capsys):
    before = {one: signal.getsignal(one) for one in SIGNALS}
    with pytest.raises(SystemExit) as stopped, stoppable():
        signal.raise_signal(number)
    assert stopped.value.code == 128 + number
    assert capsys.readouterr().err == f"stopped by {number.name}: the same command goes on with what is not finished\n"
    assert {one: signal.getsignal(one) for one in SIGNALS} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_a_command_that_is_stopped_while_it_starts_says_one_line(number, tmp_path):
    with (tmp_path / "said").open("wb") as file:
        process = start_forked(main, [*TINY, "output=made"], tmp_path, file.fileno())
        while not (tmp_path / "made").exists() and process.is_alive():
            time.sleep(0.001)
        os.kill(process.pid, number)
        process.join(60)
    assert process.exitcode == 128 + number
    said = (tmp_path / "said").read_text()
    assert len([line for line in said.splitlines() if line.strip()]) <= 2, said
    assert f"stopped by {number.name}" in said
