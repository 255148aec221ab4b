"""The interface of a fine-tuning method."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from torch import Tensor, nn

PAPER_DEPTH = 12
NOTED_FACTS = ("fallback", "depends_on_data")  # facts of a method that become notes of a record
State = tuple[int, ...]  # the blocks that train for some steps, counted from 0, in order


class Unsupported(Exception):  # noqa: N818 - a stored outcome, not a programming error
    """This method cannot run on this model or device; the message says why."""


class NeedsValues(RuntimeError):  # noqa: N818 - becomes a reason, not a programming error
    """A step needs the values of its tensors, so it cannot be predicted; the message says why."""


class Kind(StrEnum):
    """What a method changes; methods of different kinds can be composed."""

    SELECTS_WEIGHTS = "selects weights"
    STORES_ACTIVATIONS = "stores activations"
    STORES_WEIGHTS = "stores weights"
    DROPS_TOKENS = "drops tokens"
    ADDS_TOKENS = "adds tokens"
    ESTIMATES_GRADIENT = "estimates the gradient"


@dataclass(frozen=True)
class Method(ABC):
    """A method that prepares a pretrained vision transformer for memory-efficient fine-tuning.

    A method is one frozen dataclass in one file. Its fields are the options that a suite can set;
    ``__post_init__`` checks their values and raises ``ValueError``.

    Attributes:
        source: paper and section, or "baseline".
        exact_forward: the logits equal those of the unchanged model.
        gradient_error: bound on ``|g - g'| / |g'|`` over all trained parameters together, where g'
            is the exact autograd gradient of the method's own forward pass; 0.0 is exact.
        error_growth: factor on the gradient error of a method that is composed with this one,
            because the error is larger in the parameters that this one trains.
        forward_error: bound on ``|z - z'| / |z'|`` over the logits of a batch, where z' are the
            logits of the same composition without the methods that store weights; 0.0 if the
            method does not store weights.
        forward_passes: number of forward passes of a step, for each micro-batch.
        evaluates_alike: a forward pass in evaluation has as many FLOPs as one in training, so the
            two counters of FLOPs are compared.
        kinds: what the method changes.
        compiles: whether ``torch.compile`` of the step is tested.
        saves_over_full: stores fewer bytes after the forward pass than full fine-tuning, on the
            devices it is made for.
        devices: device types it is made for, as torch names them; empty means any.
        elsewhere: why it has no benefit on other device types, if ``devices`` is not empty.
        refines: names of methods of the same kind that it can follow in a composition. It then
            runs ``refine`` instead of ``prepare``; its docstring says what the pair means.
        follows: name of a method that must come before it in a composition, as an example; empty
            if the method can be used alone.
    """

    source: ClassVar[str]
    exact_forward: ClassVar[bool]
    gradient_error: ClassVar[float] = 0.0
    error_growth: ClassVar[float] = 1.0
    forward_error: ClassVar[float] = 0.0
    forward_passes: ClassVar[int] = 1
    evaluates_alike: ClassVar[bool] = True
    kinds: ClassVar[frozenset[Kind]]
    compiles: ClassVar[bool] = False
    saves_over_full: ClassVar[bool] = True
    devices: ClassVar[frozenset[str]] = frozenset()
    elsewhere: ClassVar[str] = ""
    refines: ClassVar[frozenset[str]] = frozenset()
    follows: ClassVar[str] = ""

    @classmethod
    def name(cls) -> str:
        """Return the method's name, which is the name of its file."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def prepare(self, model: nn.Module) -> nn.Module:
        """Return the model to train; may change ``model`` in place.

        The harness gives the optimizer exactly the parameters that require a gradient. A method
        may wrap modules, but must not copy parameters: the Parameter objects stay the same.

        Raises:
            Unsupported: the model lacks what the method needs.
        """

    def refine(self, model: nn.Module) -> nn.Module:
        """Prepare a model that a method in ``refines`` has prepared already, and return it.

        Raises:
            Unsupported: the model lacks what the pair needs.
        """
        kind = type(model).__name__
        raise Unsupported(
            f"{self.name()} does not refine a {kind} that another method has prepared"
        )

    def within(
        self,
        predicted_peak: Callable[["Method"], int],  # noqa: ARG002 - for those who override it
        depth: Callable[[], int],  # noqa: ARG002 - as above
    ) -> "Method":
        """Return the method with its options chosen so that its predicted peak is within a budget.

        The harness asks before it runs or predicts a trial. A method that has no option for a
        budget returns itself and calls neither function.

        Args:
            predicted_peak: returns the predicted peak in bytes of a step of the trial with another
                setting of this method; on an NVIDIA GPU the peak of the allocator.
            depth: returns the number of blocks whose activations are saved.

        Raises:
            Unsupported: no setting is within the budget, or its peak cannot be predicted.
        """
        return self

    def made_for(self, device: str) -> bool:
        """Return whether the method is made for a device type."""
        return not self.devices or device in self.devices

    def require_device(self, device: str) -> None:
        """Check that the method is made for a device type.

        Raises:
            Unsupported: it is not; the message contains ``elsewhere``.
        """
        if not self.made_for(device):
            known = " or ".join(sorted(self.devices))
            raise Unsupported(
                f"{self.name()} is made for {known}, not for {device}: {self.elsewhere}"
            )

    def step_done(self) -> None:  # noqa: B027 - optional: most methods have nothing to do
        """Do what the method needs after each optimizer step."""

    def settle(self, model: nn.Module, images: Tensor) -> None:  # noqa: B027 - as above
        """Bring a model that is only measured, without training, near its state after training.

        Only for a method whose amount of work depends on what it has learned. The harness calls
        this in the passes that measure steps and evaluations, before the first step. Nothing is
        recorded for autograd meanwhile.

        Args:
            model: the prepared model, in training mode.
            images: the batch of the pass, [batch, 3, side, side].
        """

    def states(self, model: nn.Module) -> tuple[State, ...]:  # noqa: ARG002 - for those who override it
        """Return the states of a method that changes which parameters train between steps.

        Each of them is measured: the largest peak of memory is that of the method, and the mean of
        FLOPs and of time over them is that of a whole training. ``prepare`` leaves everything
        trainable that trains in any state. An empty tuple means that always the same trains.

        Args:
            model: a model that the method has prepared.
        """
        return ()

    def state_at(self, step: int, seed: int, model: nn.Module) -> State:
        """Return the state of a training step, which may be one that ``states`` does not contain.

        The same arguments always give the same state, so a training can be resumed at any step.

        Args:
            step: number of the step, from 0.
            seed: seed of the trial.
            model: a model that the method has prepared.
        """
        raise NotImplementedError(f"{self.name()} has states, but no state_at()")

    def enter(self, model: nn.Module, state: State) -> None:
        """Make exactly those parameters trainable that train in a state.

        The harness calls this before the first step of a state. It drops the optimizer state of
        parameters that no longer train.
        """
        raise NotImplementedError(f"{self.name()} has states, but no enter()")

    def cycle_steps(self, model: nn.Module) -> int:  # noqa: ARG002 - for those who override it
        """Return the number of steps after which every block has had its turn; 1 without states."""
        return 1

    def losses(
        self,
        model: nn.Module,  # noqa: ARG002 - for those who override it
        forward: Callable[[], Tensor],
        loss_of: Callable[[Tensor], Tensor],
    ) -> Iterator[Tensor]:
        """Yield the terms of a micro-batch's loss, each of shape []; the loss is their sum.

        The harness runs a backward pass for each term before it asks for the next one, so a method
        with several forward passes stores the activations of one at a time. A method that estimates
        gradients is not asked. The recorded loss is the mean of what ``loss_of`` has returned.

        Args:
            model: the prepared model, in training mode.
            forward: runs a forward pass of the micro-batch, and returns logits [n, classes].
            loss_of: returns the mean cross-entropy of logits [n, classes], of shape [], with the
                recipe's label smoothing.
        """
        yield loss_of(forward())

    def gradients(
        self,
        model: nn.Module,
        parameters: Sequence[Tensor],
        loss: Callable[[], Tensor],
        seed: int,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each parameter with an estimate of its gradient, of the same shape.

        Only for a method with the kind ``ESTIMATES_GRADIENT``. The harness then has no backward
        pass. It takes each estimate, lets the optimizer update this parameter, and frees the
        estimate before it asks for the next one. Nothing is recorded for autograd meanwhile.

        Args:
            model: the prepared model, in training mode.
            parameters: those that train in this step, of any shape.
            loss: runs the forward pass of the whole batch, and returns the mean loss, of shape [].
            seed: another number in each step of a training, for random generators.
        """
        raise NotImplementedError(f"{self.name()} has no gradients()")

    def environment(self, device: str) -> dict[str, Any]:  # noqa: ARG002 - for those who override it
        """Return facts, other than package versions, that the method's numbers depend on.

        The harness calls this at the end of a pass. Three keys have a meaning. ``fallback`` is a
        sentence saying that a slower or larger implementation ran than the method's best, and
        ``depends_on_data`` one saying that a profile, whose images are noise, does not show what a
        training needs; both become notes of the record. ``kernel_compile_seconds`` is the time
        that compiling the method's own kernels took in this process.
        """
        return {}

    def kernels_to_compile(self, device: str) -> tuple[str, ...]:  # noqa: ARG002 - as above
        """Return the names of the method's own kernels that are not in the cache yet.

        The harness asks before a run begins, and says which kernels the first pass compiles.
        """
        return ()

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return the token count after each block, if ``entering`` tokens enter the first one."""
        return (entering,) * depth

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int | None:  # noqa: ARG002 - for those who override it
        """Return the multiply-adds that the method adds to the forward pass of one image.

        ``None`` means that they do not follow from the arguments, for example because they depend
        on the data. The conformance checks then do not compare FLOPs.

        Args:
            tokens: the number of tokens after each block.
            width: the model's embedding dimension.
        """
        return 0

    @classmethod
    def variants(cls, depth: int) -> tuple[dict[str, Any], ...]:  # noqa: ARG003 - for those who override it
        """Return the option settings, beside the default, that ``bsrbench search`` may try.

        A setting contains only the options that differ from the default. An empty tuple means that
        there is nothing to search.

        Args:
            depth: number of blocks of the model.
        """
        return ()


def apply(method: Method, model: nn.Module) -> nn.Module:
    """Return the model that a method has prepared.

    Raises:
        TypeError: ``prepare`` did not return a model.
        Unsupported: the method cannot be applied to the model.
    """
    made: object = method.prepare(model)
    if not isinstance(made, nn.Module):
        raise TypeError(
            f"prepare() returned {type(made).__name__}; expected the model to train: 'return model'"
        )
    return made
