"""The keys of the commands: those of the classes below, and for a node with a ``_target_`` those that the target takes.

Checked from source alone: nothing that a configuration names is imported here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NotRequired, TypedDict, get_type_hints, is_typeddict

from pipelines.config.instantiate import check_arguments, check_package
from pipelines.config.settings import Settings
from pipelines.config.signatures import Argument, Signature, read_signature
from pipelines.config.source import OWN

Node = dict[str, Any]
"""A mapping with ``_target_``, or one of such mappings."""

Label = int | str | list[int | str] | None
"""A class by number or name, several, or null."""

RECIPE = "recipe"
"""Value of a sampling setting that leaves it to the recipe which trained the prior."""

SAMPLING = "stage2_prior.sampling.SamplingSettings"
"""What ``sampling`` describes; it is written without ``_target_``, since its settings may be left to the recipe."""

GIVEN = {
    "stage1.training": ("model", "objective", "augmentation", "optimization", "seed", "channels_last"),
    "stage2.model": ("layout", "num_classes"),
}
"""Arguments that a target gets from the work before it, by the target's place."""


class Command(TypedDict):
    """Keys of every command."""

    hardware: Node
    trust: list[str]
    debug: bool


class Codes(TypedDict):
    """Keys of ``codes``."""

    copies: int


class TokenizerTraining(TypedDict):
    """Keys of ``stage1`` wherever a tokenizer or a part of it is trained."""

    optimization: Node
    trainer: Node
    batch_size: int
    training: NotRequired[Node | None]
    discriminator: NotRequired[Node | None]


class Stage1(TokenizerTraining):
    """Keys of ``stage1``."""

    model: Node
    objective: Node
    seed: NotRequired[int]
    init: NotRequired[str | None]
    likelihood: NotRequired[Node | None]
    quantizer: NotRequired[Node | None]
    levels: NotRequired[Node | None]


class Stage2(TypedDict):
    """Keys of ``stage2``."""

    model: Node
    optimization: Node
    trainer: Node
    batch_size: int
    label_dropout: float
    random_order: NotRequired[tuple[float, float] | None]
    seed: NotRequired[int]
    init: NotRequired[str | None]
    level: NotRequired[int | None]


class Callbacks(TypedDict):
    """Keys of ``callbacks``."""

    stage1: list[Node]
    stage2: NotRequired[list[Node]]  # of a command that trains a prior


class Training(Command):
    """Keys of ``run``, ``train_stage1``, ``extract_codes`` and ``train_stage2``."""

    output: str
    budget: str | None
    init: str | None
    seed: int
    batch_size: int
    data: Node
    tokenizer: str | None
    codes: Codes
    stage1: Stage1
    stage2: Stage2
    n: int
    label: Label
    sampling: Node
    callbacks: Callbacks
    objective: str | list[str] | None
    prune: NotRequired[Node | None]
    stop_if: NotRequired[str | None]
    logger: Node
    wandb_mode: str


class Decoder(TokenizerTraining):
    """Keys of ``stage1`` where a decoder is trained."""

    objective: NotRequired[Node | None]


class DecoderTraining(Command):
    """Keys of ``train_decoder``."""

    model: str
    output: str
    data: Node
    seed: int
    noise: float
    neighbours: int
    stage1: Decoder
    callbacks: Callbacks
    stop_if: str | None
    logger: Node
    wandb_mode: str


class Sampling(Command):
    """Keys of ``sample``."""

    model: str
    output: str | None
    n: int
    label: Label
    seed: int
    batch_size: int
    height: int | None
    width: int | None
    sampling: Node


class Completion(Command):
    """Keys of ``complete``."""

    model: str
    output: str | None
    images: str
    keep: str
    box: list[int] | None
    n: int
    label: Label
    seed: int
    candidates: int | None
    keep_pixels: bool
    sampling: Node


class Reconstruction(Command):
    """Keys of ``reconstruct``."""

    model: str
    output: str | None
    data: Node
    n: int
    batch_size: int
    refine: int


class Preview(Command):
    """Keys of ``preview``."""

    data: Node
    output: str
    n: int
    seed: int


class Publication(Command):
    """Keys of ``publish``."""

    model: str
    output: str | None
    part: Literal["all", "tokenizer", "prior"]
    license: str | None
    description: str | None
    push: str | None
    private: bool | None


class Export(Command):
    """Keys of ``export``."""

    model: str
    output: str | None
    format: Literal["onnx", "torch_export", "vqmodel"]


class Conversion(Command):
    """Keys of ``convert``."""

    model: str | None
    config: str | None
    module: Node | None
    image_size: list[int] | None
    channels: int
    output: str


class Play(Command):
    """Keys of ``play``."""

    model: str
    host: str
    port: int | None
    n: int
    queue: int


class Evaluation(Command):
    """Keys of ``evaluate``."""

    model: str
    output: str | None
    n: int
    label: Label
    seed: int
    batch_size: int
    features: Literal["own", "inception"]
    network: Node
    data: NotRequired[Node | None]
    sampling: Node


class Collapse(Command):
    """Keys of ``collapse``."""

    output: str
    seed: int
    batch_size: int
    data: Node
    bottleneck: Node
    autoencoder: Node
    optimization: Node
    trainer: Node


COMMANDS: dict[str, Any] = {
    "config": Training,
    "train_decoder": DecoderTraining,
    "sample": Sampling,
    "complete": Completion,
    "reconstruct": Reconstruction,
    "evaluate": Evaluation,
    "collapse": Collapse,
    "preview": Preview,
    "publish": Publication,
    "export": Export,
    "convert": Conversion,
    "play": Play,
}
"""Keys by the command's file in ``conf``."""

FROM_RECIPE = ("sample", "complete", "evaluate")
"""Commands that sample as a prior's recipe says: each sampling setting also has a key of its own name."""


def check_settings(settings: Settings, config_name: str) -> None:
    """Raise ValueError if there is a key that nothing reads, a value of a wrong type, or one that is missing.

    Args:
        settings: A command's whole configuration.
        config_name: The command's file in ``conf``.
    """
    for path, keys in keys_of_command(config_name).items():
        check_arguments(keys, _at(settings, path), path)
    if "sampling" in settings:
        asked = {key: value for key, value in settings["sampling"].items() if value != RECIPE}
        check_target(SAMPLING, asked, "" if config_name in FROM_RECIPE else "sampling", settings["trust"])
    check_seeds(settings, 2**64 if config_name in FROM_RECIPE[:2] else 2**32)
    # Outer nodes first: one that others are interpolated from is called by the name that the command line knows.
    for path, node in sorted(_targets(settings, ""), key=lambda found: found[0].count(".")):
        arguments = {key: value for key, value in node.items() if key != "_target_"}
        check_target(node["_target_"], arguments, path, settings["trust"])


def check_seeds(settings: Settings, end: int) -> None:
    """Raise ValueError unless each seed is from 0 to ``end - 1``: libraries that draw take no other."""
    for path in ("seed", "stage1.seed", "stage2.seed"):
        place, _, key = path.rpartition(".")
        seed = (settings.get(place) or {} if place else settings).get(key, 0)
        if not 0 <= seed < end:
            raise ValueError(f"{path} is from 0 to 2^{end.bit_length() - 1} - 1, got {seed}")


def keys_of_command(config_name: str) -> dict[str, Signature]:
    """What the nodes without a target take, by path, outer ones first; the root's path is empty."""
    known = dict(_known(COMMANDS[config_name], ""))
    if config_name in FROM_RECIPE:
        for name, argument in (read_signature(SAMPLING) or {}).items():
            known[""][name] = replace(argument, hint=argument.hint | Literal[RECIPE], required=False)
    return known


def _known(keys: Any, path: str) -> Iterator[tuple[str, Signature]]:
    hints = get_type_hints(keys)
    nested = {name: hint for name, hint in hints.items() if is_typeddict(hint)}
    yield (
        path,
        {
            name: Argument(Node if name in nested else hint, name in keys.__required_keys__)
            for name, hint in hints.items()
        },
    )
    for name, hint in nested.items():
        yield from _known(hint, f"{path}.{name}".lstrip("."))


def _at(settings: Settings, path: str) -> Any:
    """The node at a path; the settings themselves at the empty one."""
    node: Any = settings
    for key in path.split(".") if path else ():
        node = node[key]
    return node


def check_target(name: Any, arguments: Mapping[str, Any], path: str, trust: Sequence[str]) -> None:
    """Raise ValueError unless a ``_target_`` may be named, exists and takes these arguments, as far as its source says.

    Args:
        name: Its dotted name.
        arguments: By name; nodes within are not looked at.
        path: Where it stands in the configuration.
        trust: Further packages whose classes may be named.
    """
    if not isinstance(name, str):
        raise ValueError(f"{path}._target_: the dotted name of a class expected, got {name!r}")
    check_package(name, path, trust)
    try:
        signature = read_signature(name)
    except (LookupError, SyntaxError) as error:
        if name.partition(".")[0] in OWN:
            raise ValueError(f"{path}._target_: there is no {name!r} ({error})") from error
        return  # a trusted package may make its names as it is imported
    if signature is not None:
        check_arguments(signature, arguments, path, GIVEN.get(path, ()), name)


def _targets(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping with ``_target_`` at or below a node, with its path."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from _targets(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _targets(value, f"{path}[{index}]")
