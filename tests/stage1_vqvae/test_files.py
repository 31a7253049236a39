from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stage1_vqvae.files import LOCK, TEMPORARY, check_writable, read_json, replacing, sha256, write_json

KILLED_WRITER = """
import os, signal, sys
from stage1_vqvae.files import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""

PATIENT_WRITER = """
import sys
from stage1_vqvae.files import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("patient")
    print("writing", flush=True)
    sys.stdin.readline()
"""


def writer(program: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_new_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with replacing(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("one")
        assert not target.exists()
    assert target.read_text() == "one"
    with replacing(target) as temporary:
        temporary.write_text("two")
        assert target.read_text() == "one"
    assert target.read_text() == "two"
    assert names(target.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_writer_that_renames_privately_still_leaves_a_file_others_can_read(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    with replacing(tmp_path / "a") as temporary:
        private = tmp_path / "private"
        private.touch(mode=0o600)
        private.replace(temporary)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    killed = writer(KILLED_WRITER, target)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert [name for name in names(tmp_path) if name.startswith(TEMPORARY)]
    write_json(tmp_path / "b.json", 1)
    assert names(tmp_path) == ["a.txt", "b.json"]


def test_what_a_living_writer_writes_is_left_alone(tmp_path: Path) -> None:
    living = writer(PATIENT_WRITER, tmp_path / "a.txt")
    assert living.stdout is not None
    assert living.stdout.readline() == "writing\n"
    write_json(tmp_path / "b.json", 1)
    living.communicate("go on\n")
    assert living.returncode == 0
    assert (tmp_path / "a.txt").read_text() == "patient"
    assert names(tmp_path) == ["a.txt", "b.json"]


def test_two_blocks_in_one_folder_nest(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as outer:
        outer.write_text("outer")
        with replacing(tmp_path / "a") as inner:
            inner.write_text("inner")
        assert (tmp_path / "a").read_text() == "inner"
    assert (tmp_path / "a").read_text() == "outer"


def test_without_locks_files_are_written_and_orphans_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr("fcntl.flock", unsupported)
    orphan, lock = tmp_path / f"{TEMPORARY}orphan", tmp_path / f"{TEMPORARY}orphan{LOCK}"
    orphan.touch()
    lock.touch()
    write_json(tmp_path / "a.json", 1)
    assert names(tmp_path) == [orphan.name, lock.name, "a.json"]


def test_orphans_without_a_lock_file_and_lock_files_without_an_orphan_are_removed(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY}0123-of-an-older-version").touch()
    (tmp_path / f"{TEMPORARY}4567-a{LOCK}").touch()
    (tmp_path / f"{TEMPORARY}folder").mkdir()  # not made by `replacing`
    write_json(tmp_path / "a.json", 1)
    assert names(tmp_path) == [f"{TEMPORARY}folder", "a.json"]


def test_a_writer_whose_fresh_lock_file_a_cleaner_removes_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cleaner takes the lock between the two calls by which a writer opens and locks its file."""
    flock, seen = fcntl.flock, []

    def interrupted(descriptor: int, operation: int) -> None:
        if not seen:
            seen.append(descriptor)
            write_json(tmp_path / "other.json", 1)
        flock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", interrupted)
    with replacing(tmp_path / "a") as temporary:
        assert temporary.with_name(f"{temporary.name}{LOCK}").exists()
        monkeypatch.undo()
        write_json(tmp_path / "b.json", 1)
        assert temporary.exists()
    assert seen
    assert names(tmp_path) == ["a", "b.json", "other.json"]


def test_file_and_folder_are_flushed_around_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, events = tmp_path / "a", []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        events.append(("folder" if is_folder else "file", target.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    with replacing(target) as temporary:
        temporary.write_text("x")
    assert events == [("file", False), ("folder", True)]


def test_json_comes_back(tmp_path: Path) -> None:
    plain = {"b": [1, 2.5, None, True], "a": {"ä": "–"}}
    write_json(tmp_path / "a.json", plain)
    assert read_json(tmp_path / "a.json") == plain
    assert list(read_json(tmp_path / "a.json")) == ["b", "a"]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON") as error:
        read_json(path)
    assert "\n" not in str(error.value)


def test_what_json_cannot_say_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert read_json(tmp_path / "a.json") == 1


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_whether_a_folder_can_be_written_is_known_beforehand(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY}left").touch()
    check_writable(tmp_path, room=1)
    assert names(tmp_path) == []
    with pytest.raises(OSError, match=r"GiB are needed, its disk has .* free: make room"):
        check_writable(tmp_path, room=2**60)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot be written \(.*\): give another output="):
        check_writable(tmp_path / "file" / "below", room=1)
