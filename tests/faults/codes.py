"""Extraction killed, doubled, damaged."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import resource
import signal
import tempfile
from pathlib import Path

import torch

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.files import TEMPORARY
from stage2_prior.code_store.manifest import Manifest
from stage2_prior.code_store.store import CodeStore
from stage2_prior.code_store.writer import CodeStoreWriter
from tests.faults.faults import SilentlyWrong, equal, fault
from tests.faults.forks import finish, fork, interrupt, wait

ROWS, SHARDS = 400, 20


def extract(folder: Path, tokenizer: str = "a" * 64) -> None:
    """Write a store as extraction does; a tokenizer's codes are a function of its fingerprint and the row."""
    layout = CodeLayout(((4, 4),), (64,))
    manifest = Manifest(tokenizer, layout, {"source": "numbers"}, {"copies": 1}, ("a", "b"), ROWS)
    folder.mkdir(exist_ok=True)
    writer = CodeStoreWriter(folder, manifest, rows_per_shard=ROWS // SHARDS)
    for shard in writer.missing():
        rows = writer.rows(shard)
        generator = torch.Generator().manual_seed(ord(tokenizer[0]) * 1000 + shard)
        codes = torch.randint(0, 64, (len(rows), 16), generator=generator)
        writer.write(shard, codes, torch.arange(len(rows)) % 2)
    writer.publish()


def content(folder: Path) -> dict[str, str]:
    """SHA-256 of every file by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@functools.cache
def whole(tokenizer: str = "a" * 64) -> dict[str, str]:
    """Files of an uninterrupted extraction."""
    with tempfile.TemporaryDirectory() as folder:
        finish(extract, Path(folder) / "codes", tokenizer)
        return content(Path(folder) / "codes")


@fault("kill -9 of an extraction at any moment, three times", 15)
def _killed(folder: Path, dice: random.Random) -> None:
    for _ in range(3):
        interrupt(signal.SIGKILL, 0.15, dice, extract, folder / "codes")
    finish(extract, folder / "codes")
    equal(content(folder / "codes"), whole())
    equal(list(folder.rglob(f"{TEMPORARY}*")), [])


@fault("two extractions into one folder at once", 10)
def _two(folder: Path, dice: random.Random) -> None:
    codes = [wait(child) for child in [fork(extract, folder / "codes") for _ in range(2)]]
    equal(codes, [0, 0])
    equal(content(folder / "codes"), whole())


@fault("extractions of two tokenizers into one folder at once", 10)
def _foreign(folder: Path, dice: random.Random) -> None:
    (folder / "codes").mkdir()
    children = {name: fork(extract, folder / "codes", name * 64) for name in "ab"}
    ended = {name: wait(child) for name, child in children.items()}
    if 0 not in ended.values():
        # Each refused the other: nothing is served, and whoever comes next says why.
        equal((folder / "codes" / "manifest.json").exists(), False)
        return
    winner = next(name for name, code in ended.items() if code == 0)
    equal(content(folder / "codes"), whole(winner * 64))


@fault("extraction killed, then another tokenizer: never the old codes", 10)
def _old(folder: Path, dice: random.Random) -> None:
    interrupt(signal.SIGKILL, 0.15, dice, extract, folder / "codes")
    if wait(fork(extract, folder / "codes", "b" * 64)) == 0:
        equal(content(folder / "codes"), whole("b" * 64))
    finished = folder / "codes" / "manifest.json"
    if finished.exists() and CodeStore.open(folder / "codes").manifest.tokenizer[0] == "a":
        try:
            CodeStore.open(folder / "codes", "b" * 64)
        except ValueError:
            return
        raise SilentlyWrong("codes of another tokenizer were opened")


@fault("a flipped bit or a cut in a shard or a manifest", 120)
def _flipped(folder: Path, dice: random.Random) -> None:
    extract(folder / "codes")
    path = dice.choice(sorted((folder / "codes").iterdir()))
    data = bytearray(path.read_bytes())
    if dice.random() < 0.25:
        del data[dice.randrange(len(data)) :]
    else:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)
    try:
        CodeStore.open(folder / "codes").verify()
    except ValueError:
        return
    raise SilentlyWrong(f"{path.name} was taken")


def extract_on_a_full_disk(folder: Path) -> None:
    """An extraction whose files can hold no more than some bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
    extract(folder)


@fault("full disk in an extraction", 3)
def _full(folder: Path, dice: random.Random) -> None:
    equal(wait(fork(extract_on_a_full_disk, folder / "codes")), 1)
    finish(extract, folder / "codes")
    equal(content(folder / "codes"), whole())


def extract_as_nobody(folder: Path) -> None:
    """An extraction into a folder that is not one's own."""
    if os.getuid() == 0:
        os.setuid(65534)
    extract(folder)


@fault("read-only folder", 2)
def _read_only(folder: Path, dice: random.Random) -> None:
    folder.chmod(0o755)
    (folder / "codes").mkdir(mode=0o555)
    equal(wait(fork(extract_as_nobody, folder / "codes")), 1)
    equal(list((folder / "codes").iterdir()), [])
