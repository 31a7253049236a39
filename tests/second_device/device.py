"""The second device: a fake one, registered from Python, or the accelerator of this machine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorDeviceMismatchError,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "second"

AUTOCAST = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")

COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
INDEXING = (
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
)


class HostSynchronisation(RuntimeError):
    """The host waits for the device."""


class DeviceMix(RuntimeError):
    """An operation was given things of two devices."""


class Backend:
    """What torch asks of the module of a backend; the device is there only while a case runs."""

    def __init__(self) -> None:
        self.running = False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return self.running

    def device_count(self) -> int:
        return int(self.running)

    def current_device(self) -> int:
        return 0

    def set_device(self, device: object) -> None:
        pass

    def synchronize(self, device: object = None) -> None:
        raise HostSynchronisation("synchronize")

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed(self, seed: int) -> None:
        pass

    def manual_seed_all(self, seed: int) -> None:
        pass


def on_cpu(device: Any) -> bool:
    """Whether a device that is asked for, or none, is the CPU."""
    return device is None or torch.device(device).type == "cpu"


class Watch(TorchDispatchMode):
    """Raises at every operation that mixes devices or makes the host wait for the device; the CPU's own are real.

    Fake tensors see most of that themselves; copies and indices they take as they come.

    Attributes:
        strict: Whether copies that block raise; what reads values always does, since there are none.
    """

    strict = True

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._check_generator(func, args, kwargs)
        if func in COPIES:
            self._check_copy(func, args, kwargs)
        if func in INDEXING:
            self._check_indices(func, args)
        if not any(isinstance(tensor, FakeTensor) for tensor in tensors) and on_cpu(kwargs.get("device")):
            with _disable_current_modes():  # what happens on the CPU alone has values
                return func(*args, **kwargs)
        try:
            return func(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            if any(tensor.device.type == NAME for tensor in tensors):
                raise HostSynchronisation(f"{func} reads values on the host") from error
            raise
        except FakeTensorDeviceMismatchError as error:
            raise DeviceMix(f"{func}: {error}") from error

    def _check_generator(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        generator = kwargs.get("generator")
        device = kwargs.get("device") or next((a.device for a in args if isinstance(a, Tensor)), None)
        if generator is not None and device is not None and generator.device.type != torch.device(device).type:
            raise DeviceMix(f"{func}: a generator on {generator.device}, numbers on {device}")

    def _check_copy(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if func is COPIES[0]:
            source, target = args[0].device, torch.device(kwargs.get("device") or args[0].device)
            waits = not kwargs.get("non_blocking", False)
        else:
            source, target = args[1].device, args[0].device
            waits = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        if waits and self.strict and source.type != target.type:
            raise HostSynchronisation(f"a copy from {source} to {target} that blocks")

    def _check_indices(self, func: Any, args: tuple[Any, ...]) -> None:
        indexed, indices = args[0], [index for index in args[1] if index is not None]
        if indexed.device.type != NAME:
            return
        if any(index.device.type != NAME for index in indices):
            raise HostSynchronisation(f"{func}: indices on the CPU are copied to the device")
        masks = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
        if masks and func is not torch.ops.aten.index.Tensor and args[2].numel() != 1:
            raise HostSynchronisation(f"{func}: values are put where a mask is set")


def moved(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """``nn.Module._apply`` for fake tensors, which torch's own would swap in place and cannot."""
    for child in module.children() if recurse else ():
        child._apply(fn)
    with torch.no_grad():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(fn(parameter), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = fn(buffer)
    return module


class FakeTensors(FakeTensorMode):
    """Fake tensors of a device that cannot be initialised, though it says that it is there."""

    avoid_device_init = True


class FakeDevice:
    """A device whose tensors have no values."""

    _backend: Backend | None = None

    def __init__(self) -> None:
        if FakeDevice._backend is None:  # a process can register one backend, once
            FakeDevice._backend = Backend()
            _setup_privateuseone_for_python_backend(NAME, FakeDevice._backend)
            AUTOCAST.fallback(torch.library.fallthrough_kernel)  # autocast is accepted, and casts nothing
        self.backend = FakeDevice._backend
        self.device = torch.device(NAME, 0)
        # A real tensor that code holds on the CPU, and never moved, becomes a fake one there: it mixes devices.
        self.mode = FakeTensors(allow_non_fake_inputs=True)
        self.watch = Watch()

    @property
    def strict(self) -> bool:
        """Whether copies that block raise now."""
        return self.watch.strict

    @strict.setter
    def strict(self, strict: bool) -> None:
        self.watch.strict = strict

    def put(self, value: Any) -> Any:
        """A copy on the device of a module, or of the tensors in a structure of plain data."""
        if isinstance(value, nn.Module):
            value = copy.deepcopy(value)
            with self.mode, mock.patch.object(nn.Module, "_apply", moved):
                return value.to(self.device)
        with self.mode:
            return tree_map_only(Tensor, lambda tensor: tensor.to(self.device), value)

    @contextmanager
    def running(self, strict: bool = True) -> Iterator[None]:
        """The device is there; what mixes devices or makes the host wait raises.

        Args:
            strict: Whether copies that block raise too, from the beginning; see :attr:`strict`.
        """
        self.strict = strict
        self.backend.running = True
        try:
            with ExitStack() as stack:
                # Modes are a thread's own: the backward pass stays on this one.
                stack.enter_context(torch.autograd.set_multithreading_enabled(False))
                stack.enter_context(mock.patch.object(nn.Module, "_apply", moved))
                stack.enter_context(self.mode)
                stack.enter_context(self.watch)
                yield
        finally:
            self.backend.running = False


class RealDevice:
    """The accelerator of this machine."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def strict(self) -> bool:
        """Whether what makes the host wait raises now, where the device can tell."""
        return self.device.type == "cuda" and torch.cuda.get_sync_debug_mode() == 2

    @strict.setter
    def strict(self, strict: bool) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("error" if strict else "default")

    def put(self, value: Any) -> Any:
        """A copy on the device of a module, or of the tensors in a structure of plain data."""
        if isinstance(value, nn.Module):
            return copy.deepcopy(value).to(self.device)
        return tree_map_only(Tensor, lambda tensor: tensor.to(self.device), value)

    @contextmanager
    def running(self, strict: bool = True) -> Iterator[None]:
        """What makes the host wait raises, from the beginning if ``strict``, and where the device can tell."""
        self.strict = strict
        try:
            yield
        finally:
            self.strict = False


def second_device() -> FakeDevice | RealDevice:
    """This machine's accelerator, or the fake one."""
    real = torch.accelerator.current_accelerator(check_available=True) if torch.accelerator.is_available() else None
    return FakeDevice() if real is None else RealDevice(real)
