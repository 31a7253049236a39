"""Values of the device that the host needs, without stopping the device."""

from __future__ import annotations

import torch
from torch import Tensor


class DeferredRead:
    """Copies a small tensor to the host while the device goes on with what it is given next.

    Reading a tensor waits for all work that was given to the device before. This waits only for what was given to it
    before the copy began.

    Args:
        values: Any shape, on any device; the copy begins at once.
    """

    def __init__(self, values: Tensor) -> None:
        self._values = values.to("cpu", non_blocking=True)
        self._copied = None if values.device.type == "cpu" else torch.Event(values.device)
        if self._copied is not None:
            self._copied.record()

    def wait(self) -> list[float]:
        """Return the values as numbers, when they have arrived."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._values.flatten().tolist()
