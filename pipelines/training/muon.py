"""Muon on the matrices of a prior's layers, AdamW on everything else, as one optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.training.optimization import Optimization
from stage2_prior.prior import Autoregressive


@dataclass(frozen=True)
class MuonOptimization(Optimization):
    """Muon (Jordan et al. 2024) with the schedule of :class:`~pipelines.training.Optimization`, and AdamW for the rest.

    A matrix inside a layer moves by its momentum made nearly orthogonal, by torch's own ``torch.optim.Muon``. Its steps
    are scaled to the size of AdamW's (arXiv 2502.16982, section 2.2), so that both have one learning rate and one
    weight decay. Embeddings, norms, biases and the output layer are trained by AdamW.

    Attributes:
        momentum: Of the matrices.

    Raises:
        ValueError: If a setting is out of range.
    """

    momentum: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is in [0, 1), got {self.momentum}")

    def check(self, module: nn.Module) -> None:
        """Raise ValueError unless the module has layers with matrices."""
        matrices_of(module)

    def optimizer(self, module: nn.Module) -> MuonAdamW:
        """The optimiser of a module's parameters.

        Raises:
            ValueError: If no layer has matrices.
        """
        matrices = matrices_of(module)
        chosen = {id(matrix) for matrix in matrices}
        muon = torch.optim.Muon(
            matrices, self.learning_rate, self.weight_decay, self.momentum, adjust_lr_fn="match_rms_adamw"
        )
        return MuonAdamW(muon, self.adamw(each for each in module.parameters() if id(each) not in chosen))


def matrices_of(module: nn.Module) -> list[Tensor]:
    """Weights of the linear layers within the layers of a prior that are stacked on each other.

    Raises:
        ValueError: If there are none.
    """
    units = module.sharding_units() if isinstance(module, Autoregressive) else []
    linear = [part for unit in units for part in unit.modules() if isinstance(part, nn.Linear)]
    found = list(dict.fromkeys(part.weight for part in linear if part.weight.requires_grad))
    if not found:
        raise ValueError(
            f"stage2/optimizer=muon: no layer of a {type(module).__name__} has a matrix: use stage2/optimizer=adamw"
        )
    return found


class MuonAdamW(torch.optim.Optimizer):
    """Two optimisers that are stepped, saved and loaded as one.

    Args:
        muon: Of some parameters.
        adamw: Of others.
    """

    def __init__(self, muon: torch.optim.Muon, adamw: torch.optim.AdamW) -> None:
        self.muon, self.adamw = muon, adamw
        self._of_muon = len(muon.param_groups)
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        for hook in adamw._optimizer_load_state_dict_pre_hooks.values():
            self.register_load_state_dict_pre_hook(hook)

    @property
    def takes_found_inf(self) -> bool:
        """Whether a step can be left out by ``found_inf`` on the device, as a gradient scaler tells a fused AdamW."""
        return all(group.get("fused") for group in self._groups_of_adamw)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """A step of both; of neither where ``found_inf`` is 1, a tensor that fused optimisers of torch may have."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Loading a state gives this optimiser new groups and a new state; the parts work on them.
        self.muon.param_groups, self.adamw.param_groups = self._groups_of_muon, self._groups_of_adamw
        self.muon.state = self.adamw.state = self.state
        found_inf = getattr(self, "found_inf", None)
        if found_inf is None:
            self.muon.step()
        else:
            self._step_muon_unless(found_inf.bool())
            self.adamw.found_inf = found_inf  # type: ignore[attr-defined]
        self.adamw.step()
        self.adamw.__dict__.pop("found_inf", None)
        return loss

    def _step_muon_unless(self, skipped: Tensor) -> None:
        """Make Muon's step and take it back where ``skipped`` is true, so that the host need not know."""
        matrices = [each for group in self._groups_of_muon for each in group["params"] if each.grad is not None]
        for matrix in matrices:
            self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
        changed = [*matrices, *(self.state[matrix]["momentum_buffer"] for matrix in matrices)]
        before = [value.clone() for value in changed]
        self.muon.step()
        for value, earlier in zip(changed, before, strict=True):
            torch.where(skipped, earlier, value, out=value)

    @property
    def _groups_of_muon(self) -> list[dict[str, Any]]:
        return self.param_groups[: self._of_muon]

    @property
    def _groups_of_adamw(self) -> list[dict[str, Any]]:
        return self.param_groups[self._of_muon :]
