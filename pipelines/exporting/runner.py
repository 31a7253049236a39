"""Sample from exported models, with numpy and onnxruntime alone: ``python runner.py 16 3 0``: n, label, seed."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

Array = np.ndarray[Any, Any]


class Runner:
    """The models of a folder.

    Args:
        folder: With ``config.json``, ``encoder.onnx``, ``decoder.onnx`` and ``prior.onnx``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.config = json.loads(Path(folder, "config.json").read_text())
        names = [name for name in ("encoder", "decoder", "prior") if Path(folder, f"{name}.onnx").exists()]
        self.sessions = {name: onnxruntime.InferenceSession(Path(folder, f"{name}.onnx")) for name in names}

    def run(self, name: str, *inputs: Array) -> list[Array]:
        """Outputs of a model."""
        session = self.sessions[name]
        names = [each.name for each in session.get_inputs()]
        return session.run(None, dict(zip(names, inputs, strict=True)))

    def encode(self, images: Array) -> Array:
        """Codes int64 ``[B, T]`` of float32 images ``[B, C, H, W]`` in [0, 1]."""
        return self.run("encoder", images)[0]

    def decode(self, codes: Array) -> Array:
        """Images float32 ``[B, C, H, W]`` in [0, 1] of codes ``[B, T]``."""
        return self.run("decoder", codes)[0]

    def sample(
        self,
        labels: Any,
        seed: int = 0,
        temperature: float = 1.0,
        guidance: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
    ) -> Array:
        """Codes ``[B, T]`` for classes ``[B]``, -1 for none. Temperature 0 takes the likeliest code."""
        labels, classes = np.asarray(labels, np.int64), self.config["num_classes"]
        labels = np.where(labels < 0, classes, labels)
        doubled = guidance != 1 and classes > 0
        rows = np.concatenate([labels, np.full_like(labels, classes)]) if doubled else labels
        state = [np.zeros((len(rows), *shape), kind) for shape, kind in self.config["state"]]
        length = self.config["length"]
        streams = [np.random.Generator(np.random.Philox(key=(seed, image))) for image in range(len(labels))]
        noise = np.array([stream.random(length) for stream in streams])
        codes = np.zeros((len(labels), length), np.int64)
        for t in range(length):
            before = np.tile(codes[:, max(t - 1, 0)], 2 if doubled else 1)
            logits, *state = self.run("prior", before, rows, np.array([t]), *state)
            if doubled:
                own, other = np.split(logits - np.logaddexp.reduce(logits, 1, keepdims=True), 2)
                logits = np.where(np.isinf(own), own, other + guidance * (own - other))
            if temperature == 0:
                codes[:, t] = logits.argmax(1)
                continue
            kept = truncated(logits / np.float32(temperature), top_k, top_p, min_p).astype(np.float64)
            weights = np.exp(kept - kept.max(1, keepdims=True)).cumsum(1)
            drawn = (weights <= noise[:, t, None] * weights[:, -1:]).sum(1)
            codes[:, t] = drawn.clip(max=logits.shape[1] - 1)
        return codes


def truncated(logits: Array, top_k: int | None, top_p: float | None, min_p: float | None) -> Array:
    """Logits ``[B, K]`` with -inf for codes that top-k, top-p and min-p drop, one after another."""
    if top_k is not None and top_k < logits.shape[1]:
        logits = np.where(logits < -np.sort(-logits, 1)[:, top_k - 1 : top_k], -np.inf, logits)
    if top_p is not None and top_p < 1:
        shares = np.exp(logits - np.logaddexp.reduce(logits, 1, keepdims=True))
        ordered = -np.sort(-shares, 1)
        held = ordered.cumsum(1, dtype=np.float64)
        last = (held < held[:, -1:] * top_p).sum(1, keepdims=True)  # the first code by which the share is held
        logits = np.where(shares < np.take_along_axis(ordered, last, 1), -np.inf, logits)
    if min_p:
        logits = np.where(logits < logits.max(1, keepdims=True) + np.log(np.float32(min_p)), -np.inf, logits)
    return logits


if __name__ == "__main__":
    n, label, seed = (int(word) for word in [*sys.argv[1:], *("16", "-1", "0")[len(sys.argv) - 1 :]])
    runner = Runner(Path(__file__).parent)
    images = runner.decode(runner.sample([label] * n, seed))
    np.save("images.npy", images)
    print(f"images.npy: {images.shape}")
