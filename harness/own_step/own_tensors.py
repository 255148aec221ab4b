"""The categories of the tensors that exist when a user's own step begins."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils import data

from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.torch_internals.eager_internals import LOADER_ITERATOR, tree_leaves
from bsrbench.harness.training.kept_storages import KeptStorages, owners, storages, tensors_in, walk

# What lies in these is there whether or not a step is done.
DATA = (data.Dataset, data.DataLoader, data.Sampler, LOADER_ITERATOR)


class OwnTensors:
    """Tells a meter what is there, and holds on to no tensor itself.

    Args:
        model: whose modules have names.
        step: leads to what else it needs: the batch, other models, data sets.
        optimizers: those that run in it.
    """

    def __init__(
        self,
        model: nn.Module,
        step: Callable[[], object],
        optimizers: tuple[torch.optim.Optimizer, ...],
    ) -> None:
        self.model, self.step, self._optimizers = model, step, optimizers
        others = (thing for thing in walk(step, closed=DATA) if isinstance(thing, nn.Module))
        self._modules = list(dict.fromkeys([model, *others]))

    def trained(self) -> list[Tensor]:
        """Return the parameters, of any shape, that may get a gradient."""
        found = dict.fromkeys(parameter for _, parameter in self._parameters())
        return [parameter for parameter in found if parameter.requires_grad]

    def watch(self, live: LiveBytes, kept: KeptStorages) -> None:
        """Say what each tensor is for, but for what data sets hold, which is left out.

        What only the step leads to is among its inputs if the step reads it.
        """
        beside = list(walk(self.step, closed=DATA))
        sets = [thing for thing in beside if isinstance(thing, DATA)]
        live.ignore(storages(tensors_in(walk(*sets))).values())
        for name, parameter in self._parameters():
            live.watch([parameter], Category.WEIGHTS, name)
        for module in self._modules:
            live.watch(module.buffers(), Category.BUFFERS)
        self.watch_again(live)
        roots = [self.model, *self._optimizers]
        own, names = storages(tensors_in(walk(*roots))), owners(self.model)
        found = kept.find(roots, ()) | storages(tensors_in(beside))
        for key, storage in found.items():
            read_as = None if key in own else Category.INPUTS
            live.watch_rest(storage, names.get(key, ""), read_as)

    def watch_again(self, live: LiveBytes) -> None:
        """Say what gradients and the optimizers' states are for; a step may have made them."""
        for name, parameter in self._parameters():
            if parameter.grad is not None:
                live.watch([parameter.grad], Category.GRADIENTS, name)
        for optimizer in self._optimizers:
            values = tree_leaves([list(optimizer.state.values()), optimizer.param_groups])
            apart = {id(one) for group in optimizer.param_groups for one in group["params"]}
            state = (one for one in values if isinstance(one, Tensor) and id(one) not in apart)
            live.watch(state, Category.OPTIMIZER)

    def _parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield parameters with the module of the model that has them; a few may come twice."""
        for module in self._modules:
            for name, parameter in module.named_parameters():
                yield name.rpartition(".")[0] if module is self.model else "", parameter
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                yield from (("", parameter) for parameter in group["params"])
