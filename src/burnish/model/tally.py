"""What a computation takes of memory, counted without doing it.

The model's own code runs on the meta device, where tensors have a shape and a type but no contents, and every
tensor that it makes and lets go of is counted: what the forward pass keeps for the backward pass, the
gradients that come as it goes, the loss's chunks. So the count holds for each family of models, each adapter
and each way of running the layers, at any size.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from burnish.model.attention import clear_mask_cache

KEPT, HEAD, BACK = "activations", "logits", "backward"


class Tally(TorchDispatchMode):
    """Within the block: ``held``, bytes of the tensors made in it that are still there, by the ``phase`` that
    each was made in; ``at_peak``, the same when they were most. Tensors that share their memory count once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.phase = ""
        self.held: Counter[str] = Counter()
        self.at_peak: Counter[str] = Counter()
        self._total = self._most = 0
        self._known: dict[int, weakref.ref[Any]] = {}
        self._before: dict[int, Any] = {}
        """What was there before the block, such as weights: views of it are no more memory."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0  # there is no number to read; what the code decides by it takes as much either way
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._known:
                    self._before[storage._cdata] = storage
        if func is torch.ops.aten._grouped_mm.default and args[0].is_meta:
            made = _grouped_product(*args, **(kwargs or {}))
        else:
            made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return made

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size, phase = storage._cdata, storage.nbytes(), self.phase
        if key in self._known or key in self._before:
            return

        def gone(_: Any) -> None:
            del self._known[key]
            self.held[phase] -= size
            self._total -= size

        self._known[key] = weakref.ref(storage, gone)
        self.held[phase] += size
        self._total += size
        if self._total > self._most:
            self._most, self.at_peak = self._total, self.held.copy()


def _grouped_product(
    a: Tensor, b: Tensor, offs: Tensor, bias: None = None, out_dtype: torch.dtype | None = None
) -> Tensor:
    """What experts' products give: of rows (S, in) and weights (experts, in, out), or in the backward pass
    (in, S) and (S, out). torch knows their shapes on the meta device for bf16 alone."""
    shape = (a.shape[0], b.shape[-1]) if b.ndim == 3 else (offs.shape[0], a.shape[0], b.shape[1])
    return a.new_empty(shape, dtype=out_dtype or a.dtype)


def pass_peak(
    forward: Callable[[], Any], objective: Callable[[Any], Tensor], *, learns: bool = True
) -> Counter[str]:
    """Bytes that one pass of a model on the meta device takes beside its parameters when it takes most, by
    where they were made: ``KEPT``, ``HEAD`` or ``BACK``. ``forward`` gives what ``objective`` makes a loss
    of; without ``learns`` there is no backward pass."""
    clear_mask_cache()  # which an earlier pass made: this one is to count as the first
    tally = Tally()
    with tally, torch.set_grad_enabled(learns):
        tally.phase = KEPT
        features = forward()
        tally.phase = HEAD
        loss = objective(features)
        del features
        tally.phase = BACK
        if learns:
            loss.backward()
    return tally.at_peak
