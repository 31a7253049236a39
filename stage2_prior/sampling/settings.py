"""How codes are drawn from a prior's logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from stage2_prior.sampling.precision import Precision
from stage2_prior.sampling.truncation import LogitsProcessor

Schedule = Literal["constant", "linear", "power_cosine"]
"""How the guidance scale changes along the positions."""

LOWEST_TEMPERATURE = 1e-30
"""Below it, logits divided by the temperature would not fit a float32."""


@dataclass(frozen=True)
class SamplingSettings:
    """How codes are drawn from a prior's logits; each default changes nothing.

    They act in this order: guidance, temperature, top-k, top-p, min-p, processors, each on the distribution that the
    one before left.

    Attributes:
        temperature: Divides the logits; 0 is greedy: the likeliest code is taken.
        top_k: Keep the k likeliest codes; None keeps all.
        top_p: Keep the likeliest codes that hold this share of probability (arXiv 1904.09751); None or 1 keeps all.
        min_p: Keep codes at least this many times as likely as the likeliest (arXiv 2407.01082); None or 0 keeps all.
        guidance: Classifier-free guidance scale s (arXiv 2207.12598): log-probabilities become
            ``unconditional + s (conditional - unconditional)``; 1 is off.
        guidance_schedule: ``constant``; ``linear``: the scale rises from 1 at the first position to ``guidance`` at the
            last; ``power_cosine``: it rises along a cosine, late for a large ``guidance_power`` (arXiv 2411.00776).
        guidance_power: Of ``power_cosine``: position t of T has the scale
            ``1 + (s - 1) (1 - cos(π (t / T)^power)) / 2``.
        guidance_interval: Shares of the positions from and to which guidance acts, elsewhere the scale is 1 (arXiv
            2404.07724; ``cfg_interval`` of other libraries); None is all of them.
        processors: Rules of one's own, see :class:`~stage2_prior.sampling.truncation.LogitsProcessor`.
        precision: What the prior computes in; codes are drawn in float64 either way. ``bfloat16`` halves what is read
            for every code, its logits have 8 bits.
        microbatch_size: Images computed at a time; fewer need less memory. None chooses it. Where the machine rounds
            differently for another number of rows, as GPUs may, another size gives other images.

    Raises:
        ValueError: If a setting is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    guidance: float = 1.0
    guidance_schedule: Schedule = "constant"
    guidance_power: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    processors: Sequence[LogitsProcessor] = ()
    precision: Precision = "float32"
    microbatch_size: int | None = None

    def __post_init__(self) -> None:
        if self.guidance_interval is not None:
            object.__setattr__(self, "guidance_interval", tuple(self.guidance_interval))
        object.__setattr__(self, "processors", tuple(self.processors))
        if self.temperature != 0 and not LOWEST_TEMPERATURE <= self.temperature < math.inf:
            raise ValueError(f"temperature is 0, or at least {LOWEST_TEMPERATURE}, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is at least 1, or null for all codes, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is in (0, 1], or null for all codes, got {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is in [0, 1], or null for all codes, got {self.min_p}")
        self._check_guidance()
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision: float32 or bfloat16 expected, got {self.precision!r}")
        if self.microbatch_size is not None and self.microbatch_size < 1:
            raise ValueError(f"microbatch_size is at least 1, or null to choose it, got {self.microbatch_size}")
        for processor in self.processors:
            if not callable(processor):
                raise ValueError(f"processors: functions of logits and codes expected, got {processor!r}")

    def _check_guidance(self) -> None:
        if not 0 <= self.guidance < math.inf:
            raise ValueError(f"guidance is at least 0, and 1 is off, got {self.guidance}")
        if self.guidance_schedule not in get_args(Schedule):
            raise ValueError(
                f"guidance_schedule: {', '.join(get_args(Schedule))} expected, got {self.guidance_schedule!r}"
            )
        if not 0 < self.guidance_power < math.inf:
            raise ValueError(f"guidance_power is above 0, got {self.guidance_power}")
        if self.guidance_interval is not None:
            first, last = self.guidance_interval
            if not 0 <= first < last <= 1:
                raise ValueError(
                    f"guidance_interval is two shares of the positions in rising order, from 0 to 1, or null, "
                    f"got {list(self.guidance_interval)}"
                )

    def guidance_scales(self, length: int) -> list[float]:
        """The guidance scale at each of T positions."""
        rise = {
            "constant": lambda t: 1.0,
            "linear": lambda t: t / (length - 1) if length > 1 else 1.0,
            "power_cosine": lambda t: (1 - math.cos(math.pi * (t / length) ** self.guidance_power)) / 2,
        }[self.guidance_schedule]
        first, last = self.guidance_interval or (0.0, 1.0)
        return [
            1 + (self.guidance - 1) * rise(t) if first * length <= t < last * length else 1.0 for t in range(length)
        ]

    def plain(self) -> dict[str, Any]:
        """The settings as plain data, for what is written down of them."""
        values = dict(vars(self))
        interval = self.guidance_interval
        return values | {
            "guidance_interval": None if interval is None else list(interval),
            "processors": [_described(processor) for processor in self.processors],
        }


def _described(processor: LogitsProcessor) -> Any:
    """A processor's class and attributes, or the name of a function."""
    kind = processor if hasattr(processor, "__qualname__") else type(processor)
    name = f"{kind.__module__}.{kind.__qualname__}"
    return {"_target_": name, **getattr(processor, "__dict__", {})} if kind is type(processor) else name
