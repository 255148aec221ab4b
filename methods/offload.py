"""Offloading: saved activations wait in the host's memory for the backward pass."""

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

APART = frozenset({"cuda", "xpu"})  # whose memory is not the host's; that of mps is
LEAST_BYTES = 4096  # moving fewer costs more time than they are worth: statistics, a random state


@dataclass(frozen=True)
class ActivationOffloading(Method):
    """Move every activation that an operator saves to the host; copy it back when it is read.

    Stores on the device nothing that an operator saves in a block or the final norm but the
    parameters (they stay there anyway) and what is smaller than 4 KiB; copies that autocast makes
    of weights are moved, too. They lie in pinned memory of the host, one copy where several
    operators save the same tensor. Approximates nothing. Costs the way there and back: copies run
    in the order of the computation, on its stream, so the host does not wait for them, but what
    is computed after them does. Does not save weights, gradients, optimizer state, or what lies
    outside blocks and final norm; nor does it save anything in all, for what leaves the device the
    host must have, which no column of a report shows. The paper moves the inputs of layers it
    chooses, by a stream of its own, and fetches them ahead of time; here torch's hooks move
    whatever is saved (as its ``save_on_cpu``, which moves parameters, too), and nothing is fetched
    ahead. On a CPU hooks leave tensors where they are, and a trial says Unsupported. No GPU was at
    hand: what this does on one is written down in tests marked ``cuda``, and none of them has been
    run.
    """

    source = "Rhu et al. 2016 (vDNN), arXiv:1602.08124, abstract; by torch's hooks on saved tensors"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})
    devices: ClassVar = APART
    elsewhere = "what it would move is in the host's memory already"

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make blocks and final norm save on the host."""
        for module in (*stored_blocks(model), stored_norm(model)):
            extend(module, SavesOnHost)
        return model


class SavesOnHost(nn.Module):
    """A module whose saved activations wait in the host's memory."""

    def forward(self, x: Tensor) -> Tensor:
        """Do what the module does with [batch, tokens, dim]."""
        stays = {storage_identity(parameter.untyped_storage()) for parameter in self.parameters()}
        packing = Packing(partial(_leaves, stays=stays), _to_host)
        with saved_tensors_hooks(packing, unpacking(_to_device)):
            output: Tensor = super().forward(x)
        return output


@dataclass(frozen=True)
class OnHost:
    """A tensor that was moved, and where it came from."""

    tensor: Tensor
    device: torch.device


def _leaves(saved: Tensor, *, stays: AbstractSet[int]) -> bool:
    """Tell whether a saved tensor is to be moved."""
    if saved.device.type not in APART or saved.nbytes < LEAST_BYTES:
        return False
    return storage_identity(saved.untyped_storage()) not in stays


def _to_host(x: Tensor) -> OnHost:
    return OnHost(_room(x).copy_(x, non_blocking=True), x.device)


def _room(x: Tensor) -> Tensor:
    """Return pinned memory of the host for a tensor: from other memory it would be copied twice."""
    return torch.empty_like(x, device="cpu", pin_memory=True)


def _to_device(kept: OnHost) -> Tensor:
    # Both copies are in the stream's order, so neither is read before it is whole.
    return kept.tensor.to(kept.device, non_blocking=True)
