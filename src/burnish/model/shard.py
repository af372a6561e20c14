"""A model's weights split over the ranks (FSDP2), each layer put together only while it runs.

Gradients add up over the ranks and are not averaged: the loss is already divided by the count of all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from burnish.model.layers import layers_of


def shard(model: PreTrainedModel, ranks: int) -> None:
    """Split the weights of ``model`` in place, over so many ranks; afterwards they are ``DTensor``. Needs the
    process group. Every rank must then run the same passes, backward ones too, in the same order."""
    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (ranks,))
    # What is outside of the layers, the embeddings say, is split with the model itself.
    for unit in (*layers_of(model), model):
        sharded = fully_shard(unit, mesh=mesh, mp_policy=MixedPrecisionPolicy(reduce_dtype=torch.float32))
        assert isinstance(sharded, FSDPModule)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # gloo has no other


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor; all of one that is not split."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(part: Tensor, like: Tensor) -> Tensor:
    """The full tensor, split as ``like`` is, from each rank's part. All ranks must call it."""
    if not isinstance(like, DTensor):
        return part
    split = DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    return split.full_tensor()


def split_like(full: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a full tensor, split as ``like`` is. Nothing is sent."""
    if not isinstance(like, DTensor):
        return full
    moved = full.to(like.device)
    return distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None).to_local()


def free_gathered(model: nn.Module) -> None:
    """Free the gathered weights that the last pass of a split model left: its parts have changed since."""
    if isinstance(model, FSDPModule):
        model.reshard()
