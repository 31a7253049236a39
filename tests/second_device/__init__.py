"""Runs every part of the device code on a second device, also on a machine that has a CPU alone.

``python -m pytest tests/second_device`` runs all of it; ``-k ema`` what has that in its name. Each case fails

- if two devices meet in one operation;
- if the host waits for the device: ``.item()``, ``bool(tensor)``, ``nonzero``, indexing by a mask, ``bincount``, and
  every copy between CPU and device that is not ``non_blocking=True`` (``torch.tensor(values, device=device)`` too);
- if a random generator of one device is used on another.

On a CPU the second device is a backend that is registered from Python; its tensors are fake: they have a shape, a type
and a device, and no values. On a machine with an accelerator the same cases run there, where CUDA reports
synchronisations itself (``torch.cuda.set_sync_debug_mode``).

What cannot be seen in this way: values, the recording of CUDA graphs, kernels that some real device lacks, and that a
copy which does not block reads memory which is pinned and not yet overwritten.

``known.py`` lists the cases that are known to fail, and why. An entry whose case passes fails the run: remove it.
"""
