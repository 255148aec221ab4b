"""The categories of the tensors that exist when a user's own step begins."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils import data

from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.torch_internals.eager_internals import LOADER_ITERATOR, tree_leaves
from bsrbench.harness.training.kept_storages import KeptStorages, owners, storages, tensors_in, walk

# The tensors in these exist whether or not a step runs.
DATA = (data.Dataset, data.DataLoader, data.Sampler, LOADER_ITERATOR)


class OwnTensors:
    """Tells a meter the category of each tensor; stores no tensor itself.

    Args:
        model: the model; the meter reports the names of its modules.
        step: the step. The other tensors are found through it: batch, other models, data sets.
        optimizers: the optimizers that run in the step.
    """

    def __init__(
        self,
        model: nn.Module,
        step: Callable[[], object],
        optimizers: tuple[torch.optim.Optimizer, ...],
    ) -> None:
        self.model, self.step, self._optimizers = model, step, optimizers
        modules = (thing for thing in walk(step, closed=DATA) if isinstance(thing, nn.Module))
        self._modules = list(dict.fromkeys([model, *modules]))

    def trained(self) -> list[Tensor]:
        """Return the parameters, of any shape, that may get a gradient."""
        parameters = dict.fromkeys(parameter for _, parameter in self._parameters())
        return [parameter for parameter in parameters if parameter.requires_grad]

    def watch(self, live: LiveBytes, kept: KeptStorages) -> None:
        """Tell the meter the category of each tensor; the tensors of data sets are left out.

        A tensor that only the step refers to is an input if the step reads it.
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
        rest = kept.find(roots, ()) | storages(tensors_in(beside))
        for key, storage in rest.items():
            read_as = None if key in own else Category.INPUTS
            live.watch_rest(storage, names.get(key, ""), read_as)

    def watch_again(self, live: LiveBytes) -> None:
        """Tell the meter the category of gradients and optimizer states; a step can make them."""
        for name, parameter in self._parameters():
            if parameter.grad is not None:
                live.watch([parameter.grad], Category.GRADIENTS, name)
        for optimizer in self._optimizers:
            values = tree_leaves([list(optimizer.state.values()), optimizer.param_groups])
            apart = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
            state = (leaf for leaf in values if isinstance(leaf, Tensor) and id(leaf) not in apart)
            live.watch(state, Category.OPTIMIZER)

    def _parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each parameter with its module's name, empty outside the model; may repeat some."""
        for module in self._modules:
            for name, parameter in module.named_parameters():
                yield name.rpartition(".")[0] if module is self.model else "", parameter
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                yield from (("", parameter) for parameter in group["params"])
