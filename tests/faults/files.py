"""Files and configurations that are damaged or evil."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import pickle
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipelines.artifacts.models import load_tokenizer, save_model
from pipelines.config.instantiate import build
from pipelines.training.checkpoint_files import VerifiedIO, load_checkpoint, step_path
from stage1_vqvae.data.sources import Folder
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer
from stage1_vqvae.vqvae import VQVAE
from stage2_prior.code_store.store import CodeStore
from tests.faults.codes import extract
from tests.faults.faults import SilentlyWrong, equal, fault
from tests.stage1_vqvae.data.test_encoded import corruptions, photo

MODEL = {
    "_target_": "stage1_vqvae.VQVAE",
    "image_size": [8, 8],
    "channels": 1,
    "quantizer": {"_target_": "stage1_vqvae.quantizers.EMAVectorQuantizer", "dim": 2, "codebook_size": 4},
    "width": 4,
    "residual_width": 2,
    "downsample_factor": 4,
}


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder / "ran"),)


def refused(folder: Path, attempt: object, *arguments: object) -> None:
    """Raise unless the attempt ends with a ValueError of few lines and nothing ran."""
    try:
        attempt(*arguments)  # type: ignore[operator]
    except ValueError as error:
        equal(len(str(error).splitlines()) <= 5, True)
        equal((folder / "ran").exists(), False)
        return
    raise SilentlyWrong("it was taken")


@fault("a flipped bit or a cut in a checkpoint", 80)
def _checkpoint(folder: Path, dice: random.Random) -> None:
    path = step_path(folder, 1)
    VerifiedIO().save_checkpoint({"format": 1, "w": torch.arange(500.0)}, path)
    data = bytearray(path.read_bytes())
    if dice.random() < 0.25:
        del data[dice.randrange(len(data)) :]
    else:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)
    refused(folder, load_checkpoint, path)


@fault("code in a checkpoint, a code store or a model", 9)
def _code(folder: Path, dice: random.Random) -> None:
    evil = pickle.dumps(Payload(folder))
    archive = io.BytesIO()
    np.savez(archive, codes=np.array([Payload(folder)], dtype=object))
    saved = io.BytesIO()
    torch.save({"format": 1, "x": Payload(folder)}, saved)
    data = dice.choice([evil, archive.getvalue(), saved.getvalue()])
    kind = dice.choice(["checkpoint", "store", "model"])
    if kind == "checkpoint":
        path = step_path(folder, 1)
        path.write_bytes(data)
        Path(f"{path}.sha256").write_text(hashlib.sha256(data).hexdigest())
        refused(folder, load_checkpoint, path)
    elif kind == "store":
        extract(folder / "codes")
        next((folder / "codes").glob("*.safetensors")).write_bytes(data)
        refused(folder, CodeStore.open, folder / "codes")
    else:
        save_model(
            folder / "m",
            "tokenizer",
            VQVAE((8, 8), 1, EMAVectorQuantizer(2, 4), 4, 2, downsample_factor=4),
            {"model": MODEL},
        )
        (folder / "m" / "model.safetensors").write_bytes(data)
        refused(folder, load_tokenizer, folder / "m")


TARGETS = [
    *("os.system", "os.popen", "os.execv", "os.mkdir", "os.remove", "posix.system", "nt.system", "pty.spawn"),
    *("subprocess.run", "subprocess.Popen", "subprocess.check_output", "builtins.eval", "builtins.exec"),
    *("builtins.open", "builtins.__import__", "importlib.import_module", "runpy.run_path", "code.interact"),
    *("pickle.loads", "pickle.load", "torch.load", "torch.hub.load", "torch.jit.load", "numpy.load", "shutil.rmtree"),
    *("yaml.unsafe_load", "joblib.load", "hydra.utils.instantiate", "functools.partial", "ctypes.CDLL"),
    *(
        "pipelines.distributed.launch.os.system",
        "stage1_vqvae.data.cache.shutil.rmtree",
        "pipelines.training.fit.torch.load",
    ),
    *(
        "pipelines.config.instantiate.importlib.import_module",
        "stage1_vqvae.files.os.system",
        "stage1_vqvae.files.contextlib.closing",
    ),
]


_targets = itertools.cycle(TARGETS)


@fault("a _target_ outside of the project", len(TARGETS))
def _target(folder: Path, dice: random.Random) -> None:
    refused(folder, build, {"_target_": next(_targets), "name": str(folder / "ran"), "path": str(folder / "ran")})


@fault("corrupt images among good ones", 12)
def _images(folder: Path, dice: random.Random) -> None:
    photos = folder / "photos"
    photos.mkdir()
    for number in range(6):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(photos / f"{number}.png")
    form = dice.choice(["PNG", "JPEG"])
    name, data = dice.choice(list(corruptions(photo(form)).items()))
    (photos / f"bad.{form.lower()}").write_bytes(data)
    source = Folder(files=str(photos), image_size=[8, 8], channels=3, cache=str(folder / "cache"), max_bad=0.2)
    images = source.open()
    equal([Path(bad.where).stem for bad in images.left_out], ["bad"])
    equal(len(images.train) + len(images.validation), 6)
    equal(name != "", True)
