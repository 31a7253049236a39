"""Every argument of every public function: right forms are taken, wrong ones are refused in one line of ours.

The tables are complete: an argument that they lack fails a test.
"""

import inspect
from contextlib import nullcontext, suppress
from unittest.mock import DEFAULT, patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import Generator, Samples, api
from pipelines.api import training_settings

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), dtype=np.uint8)
CODES = torch.zeros(2, 16, dtype=torch.int64)
NUMBERS = (True, 1.5, "1", None, [1], float("nan"), -2)
IMAGES = (
    [PIXELS, PIXELS[..., 0], PIXELS / 255, list(PIXELS), torch.from_numpy(PIXELS).movedim(-1, 1), PIXELS[0]],
    [None, 3, "no/such.png", [], PIXELS[:0], PIXELS.astype(int), PIXELS * 1.0, PIXELS / 127.5 - 1, PIXELS[:, :9], {}],
)
SOME_CODES = (
    [CODES, CODES.numpy(), CODES.tolist(), CODES.to(torch.uint8), CODES.view(2, 4, 4), CODES[0]],
    [None, "x", [], CODES.float(), CODES + 999, CODES - 1, CODES[:, :3], CODES > 0, [[1], [2, 3]], {}],
)
LABELS = (
    [None, 3, "3", [1, 2], np.array([1, 2]), torch.tensor([1, 2]), np.int64(1), -1],
    [10, -7, "cat", [], True, 1.5, torch.tensor([0.5]), np.array([[1]]), object(), {"a": 1}, b"1"],
)
SIZES = ([None, (28, 28), [28, 28], np.array([28, 28])], ["x", 28, (28,), (28, 28, 1), (0, 28), (2.5, 28), (28, -28)])
FREE = ([True, False], [])  # anything is true or false
CALLED = ([], [])  # a function of the caller's

GENERATOR = {
    "sample": {
        "n": ([1, np.int64(1), torch.tensor(1)], [0, *NUMBERS]),
        "label": LABELS,
        "seed": ([0, 2**64 - 1, np.uint8(3)], [2**64, *NUMBERS]),
        "batch_size": ([1, np.int32(64)], [0, *NUMBERS]),
        "first": ([0, 5], [*NUMBERS]),
        "image_size": SIZES,
        "prefix": (
            [None, [0, 1], np.array([1]), torch.tensor([[1, 2]])],
            ["x", [], [1.5], [999], 3, [[1], [2]], [True]],
        ),
        "progress": CALLED,
        "on_position": CALLED,
        "settings": (
            [{"temperature": 0.5}, {"top_k": 2}],
            [{"temprature": 1}, {"top_k": 2.5}, {"top_p": 2}, {"top_k": "x"}],
        ),
    },
    "complete": {
        "codes": SOME_CODES,
        "keep_mask": (
            [torch.ones(16, dtype=torch.bool), np.zeros((2, 16), bool), [True] * 16, "left", np.ones((28, 28), bool)],
            [None, "x", [], torch.ones(16), torch.ones(3, dtype=torch.bool), 1, {}],
        ),
        "labels": (LABELS[0], LABELS[1]),
        "seed": ([0], [*NUMBERS]),
        "candidates": ([None, 1, np.int64(2)], [0, True, 1.5, "1", [1], -2]),
        "originals": ([None, PIXELS], [PIXELS[:1], *IMAGES[1][1:]]),
        "progress": CALLED,
        "settings": ([{"temperature": 0.5}], [{"temprature": 1}]),
    },
    "encode": {"images": IMAGES, "resize": FREE, "refine": ([0, np.int64(1)], [*NUMBERS])},
    "reconstruct": {"images": IMAGES, "resize": FREE, "refine": ([0, torch.tensor(1)], [*NUMBERS])},
    "metrics": {"images": IMAGES, "resize": FREE},
    "decode": {"codes": SOME_CODES},
    "code_counts": {"codes": SOME_CODES},
    "log_prob": {"codes": SOME_CODES, "labels": LABELS},
    "labels": {"n": ([0, 2, np.int64(3)], [*NUMBERS]), "label": LABELS},
    "settings_with": {"settings": ([{"temperature": 0.5}], [{"temprature": 1}, {"top_p": "x"}])},
    "whole_microbatches": {"images": ([1, np.int64(3)], [0, *NUMBERS])},
    "larger_grid": {"image_size": SIZES},
    "load": {
        "folder": ([], [None, 3, "nowhere", __file__]),
        "device": ([None, "cpu", torch.device("cpu")], ["cuda:99", "gpu:7", "x"]),
        "trust": ([(), ["json"]], []),
        "tokenizer": ([None], [3, "nowhere"]),
    },
}
SAMPLES = {
    "grid": {"columns": ([1, np.int64(50)], [0, *NUMBERS])},
    "save": {"path": ([], ["x.txt", "x"]), "columns": ([3], [0, *NUMBERS])},
    "to_pil": {},
    "to_dataset": {},
}
TRAINING = {
    "images": (
        [None, PIXELS, PIXELS / 255, list(PIXELS), torch.from_numpy(PIXELS)],
        [3, "nowhere", [], PIXELS[:0], PIXELS.astype(int), PIXELS * 1.0, {}, [None], [(1, 2, 3)], object()],
    ),
    "labels": ([None, [0, 1], ["a", "b"], np.array([0, 1])], [[0], [0.5, 1], 3, object(), [[0, 1]]]),
    "output": (["made"], [None, 3]),
    "experiment": ([None, "mnist5k"], ["mnist5", 3, ""]),
    "validation": (
        [None, 0.5, np.float32(0.5), PIXELS, (PIXELS, [0, 1])],
        ["x", float("nan"), [], PIXELS[:0], {}, object()],
    ),
    "seed": ([None, 0, np.int64(3), 2**32 - 1], [2**32, True, 1.5, "1", [1], -1]),
    "settings": (
        [None, {}, {"n": 3}, {"stage1": {"batch_size": 8}}, ["n=3"], []],
        ["n=3", 3, {"nn": 1}, {"n": "x"}, ["nn=1"], ["n"], [3], {"stage2": "no"}, {3: 4}, object()],
    ),
}
GIVEN = TRAINING["settings"]
MODEL = (["run"], [None, 3, object()])
STEPS = {
    "evaluate": {"model": MODEL, "settings": ([None, {"n": 3}, {"network": {"steps": 3}}, ["n=3"]], GIVEN[1])},
    "reconstruct": {"model": MODEL, "settings": ([None, {}, {"batch_size": 3}], GIVEN[1])},
    "complete": {
        "model": MODEL,
        "images": (["a.png"], [None, 3, object()]),
        "settings": ([None, {"n": 3}, ["keep=left"]], GIVEN[1]),
    },
    "train_decoder": {
        "model": MODEL,
        "output": (["new"], [None, 3, object()]),
        "settings": ([None, {"noise": 0.1}, {"stage1/training": "adversarial"}], GIVEN[1]),
    },
}
BASE = {
    "sample": {"n": 1, "label": 3},
    "complete": {"codes": CODES, "keep_mask": [True] * 16},
    "labels": {"n": 2},
    "log_prob": {"codes": CODES},
    **{key: {"images": PIXELS} for key in ("encode", "reconstruct", "metrics")},
}


def public(kind):
    """The public functions of a class by name."""
    found = {name: getattr(kind, name) for name in vars(kind) if not name.startswith("_")}
    return {name: value for name, value in found.items() if inspect.isroutine(value)}


@pytest.mark.parametrize(("kind", "table"), [(Generator, GENERATOR), (Samples, SAMPLES)])
def test_the_table_has_every_argument(kind, table):
    signatures = {name: set(inspect.signature(value).parameters) - {"self"} for name, value in public(kind).items()}
    assert {name: set(arguments) for name, arguments in table.items()} == signatures
    assert set(TRAINING) == set(inspect.signature(training_settings).parameters)
    public_steps = {name: value for name, value in public(api).items() if value.__module__ == api.__name__}
    trained = {
        name for name, value in public_steps.items() if set(inspect.signature(value).parameters) == set(TRAINING)
    }
    assert {"train", "train_tokenizer", "extract_codes", "train_prior"} <= trained
    inner = {"called_with", "model_settings", "run_steps"}
    steps = {
        name: set(inspect.signature(public_steps[name]).parameters) for name in set(public_steps) - trained - inner
    }
    assert {name: set(arguments) for name, arguments in STEPS.items()} == steps


@pytest.fixture(scope="module")
def generator(tiny_run):
    return Generator.load(tiny_run, device="cpu")


@pytest.fixture(scope="module")
def call(generator, tiny_run, tmp_path_factory):
    """Calls a function with one argument as given and the others right."""
    samples = generator.sample(2)
    folder = tmp_path_factory.mktemp("arguments")

    def called(kind, function, argument, value):
        more = value if argument == "settings" and kind == "generator" else {argument: value}
        if kind == "training":
            rest = {"images": PIXELS} if argument in ("labels", "validation") else {}
            # Hydra takes a third of a second for a configuration, which most arguments do not reach.
            composed = argument in ("settings", "experiment")
            with nullcontext() if composed else patch("pipelines.api.composed_settings"):
                return training_settings(**{"output": folder / "run", **rest, **more})
        if kind == "steps":
            others = {"complete": {"images": "a.png"}, "train_decoder": {"output": "new"}}
            rest = {"model": "run", **others.get(function, {})}
            results = ("run_steps", "read_json", "load_tokenizer")
            with patch.multiple("pipelines.api", **dict.fromkeys(results, DEFAULT)):
                return getattr(api, function)(**{**rest, **more})
        if kind == "samples":
            rest = {"path": folder / "grid.png"} if function == "save" else {}
            return getattr(samples, function)(**{**rest, **more})
        rest = {"folder": tiny_run} if function == "load" else BASE.get(function, {})
        return getattr(generator, function)(**{**rest, **more})

    return called


TABLES = {"generator": GENERATOR, "samples": SAMPLES, "training": {"train": TRAINING}, "steps": STEPS}
CASES = [
    (kind, function, argument, value, is_right)
    for kind, functions in TABLES.items()
    for function, arguments in functions.items()
    for argument, forms in arguments.items()
    for is_right, values in zip((True, False), forms, strict=True)
    for value in values
]


def test_right_forms_are_taken_and_wrong_ones_refused_in_one_line(call):
    """One test of a thousand short calls; it lists all that are wrong."""
    wrong = []
    for kind, function, argument, value, is_right in CASES:
        shown = f"{function}({argument}={str(value)[:40]!r})"
        try:
            call(kind, function, argument, value)
            said = None
        except ValueError as error:
            said = str(error)
        except Exception as error:
            wrong.append(f"{shown}: {type(error).__name__}: {error}"[:200])
            continue
        if is_right and said is not None:
            wrong.append(f"{shown} is refused: {said}")
        elif not is_right and (said is None or "\n" in said):
            wrong.append(f"{shown} is taken, or refused in lines: {said}")
    assert not wrong, "\n".join(wrong)


ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.lists(st.integers())
    | st.dictionaries(st.text(), st.integers())
    | st.tuples(st.floats(), st.text())
    | st.builds(object)
)


APART = ("settings", "resize", "trust", "output")
DRAWN = sorted({case[:3] for case in CASES if case[2] not in APART and case[1:3] != ("sample", "image_size")})


@settings(max_examples=60)
@given(case=st.sampled_from(DRAWN), value=ANYTHING)
def test_anything_else_is_taken_or_refused_by_a_message_of_ours(call, case, value):
    kind, function, argument = case
    if isinstance(value, int) and value > 8 and argument in ("n", "images", "first", "candidates", "batch_size"):
        value = 8  # larger ones are right, and take long
    with suppress(ValueError):  # any other error fails
        call(kind, function, argument, value)
