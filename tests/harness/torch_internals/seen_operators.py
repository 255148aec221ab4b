"""A mode that notes every operator."""

from bsrbench.harness.torch_internals.eager_internals import (
    TorchDispatchMode,
)


class Operators(TorchDispatchMode):
    """Notes the name of every operator."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))
