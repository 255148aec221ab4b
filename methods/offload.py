"""Offloading: move saved activations to host memory until the backward pass."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from bsrbench.harness.method import Kind, Method
from bsrbench.harness.model.vit import stored_blocks, stored_norm
from bsrbench.harness.torch_internals.eager_internals import storage_identity
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.saved_tensors import Packing, unpacking

APART = frozenset({"cuda", "xpu"})  # devices with their own memory; mps uses host memory
LEAST_BYTES = 4096  # smaller tensors (statistics, a random state) are not worth the transfer


@dataclass(frozen=True)
class ActivationOffloading(Method):
    """Move every activation that an operator saves to the host; copy it back when it is read.

    Stores no saved activation of blocks and final norm on the device, except tensors smaller than
    4 KiB; parameters stay on the device, but copies of weights made by autocast are moved. The
    moved tensors are in pinned host memory; a tensor that several operators save is stored once.
    Approximates nothing. Costs the transfers in both directions: copies run on the stream of the
    computation, so the host does not wait for them, but later computation does. Does not save
    weights, gradients, optimizer state, or anything outside blocks and final norm. It also does
    not save memory in total: the host must hold what leaves the device, and no column of a report
    shows host memory. The paper moves the inputs of selected layers on a separate stream and
    prefetches them; here torch's hooks move everything that is saved (like ``save_on_cpu``, which
    also moves parameters), without prefetching. On a CPU there is nothing to move, and the trial
    is Unsupported. Not verified on a GPU: the tests marked ``cuda`` describe its behaviour there,
    and they have not been run.
    """

    source = "Rhu et al. 2016 (vDNN), arXiv:1602.08124, abstract; by torch's hooks on saved tensors"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})
    devices: ClassVar = APART
    elsewhere = "the tensors that it would move are already in host memory"

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make blocks and final norm save on the host."""
        for module in (*stored_blocks(model), stored_norm(model)):
            extend(module, SavesOnHost)
        return model


class SavesOnHost(nn.Module):
    """A module whose saved activations are moved to host memory."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] as the module does."""
        stays = {storage_identity(parameter.untyped_storage()) for parameter in self.parameters()}
        packing = Packing(partial(_leaves, stays=stays), _to_host)
        with saved_tensors_hooks(packing, unpacking(_to_device)):
            output: Tensor = super().forward(x)
        return output


@dataclass(frozen=True)
class OnHost:
    """A moved tensor and its original device."""

    tensor: Tensor
    device: torch.device


def _leaves(saved: Tensor, *, stays: AbstractSet[int]) -> bool:
    """Tell whether to move a saved tensor."""
    if saved.device.type not in APART or saved.nbytes < LEAST_BYTES:
        return False
    return storage_identity(saved.untyped_storage()) not in stays


def _to_host(x: Tensor) -> OnHost:
    return OnHost(_room(x).copy_(x, non_blocking=True), x.device)


def _room(x: Tensor) -> Tensor:
    """Return pinned host memory for a tensor; other host memory would need a second copy."""
    return torch.empty_like(x, device="cpu", pin_memory=True)


def _to_device(kept: OnHost) -> Tensor:
    # Both copies run in the order of the stream, so no copy is read before it is complete.
    return kept.tensor.to(kept.device, non_blocking=True)
