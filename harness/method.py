"""The contract of a fine-tuning method, and compositions of methods."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Any, ClassVar

from torch import nn

PAPER_DEPTH = 12
KERNEL_SECONDS = "kernel_compile_seconds"


class Unsupported(Exception):  # noqa: N818 - a stored outcome, not a programming error
    """This method cannot run on this model or device; the message says why."""


class Kind(StrEnum):
    """What a method changes; methods of different kinds can be composed."""

    SELECTS_WEIGHTS = "selects weights"
    STORES_ACTIVATIONS = "stores activations"
    DROPS_TOKENS = "drops tokens"
    ADDS_TOKENS = "adds tokens"


CHANGES_TOKENS = frozenset({Kind.DROPS_TOKENS, Kind.ADDS_TOKENS})


@dataclass(frozen=True)
class Method(ABC):
    """A fine-tuning method: it prepares a pretrained vision transformer for training.

    A method is one frozen dataclass in one file. Its fields are the options that a suite may set;
    ``__post_init__`` checks their values and raises ``ValueError``.

    Attributes:
        source: paper and section, or "baseline".
        exact_forward: whether the logits equal those of the untouched model.
        gradient_error: bound on ``|g - g'| / |g'|`` over all trained parameters, where g' is the
            exact gradient of the method's own forward pass; 0.0 means exact.
        error_growth: factor by which the bound of another method grows in a composition with this
            one, because the error is larger in the parameters that this one trains.
        kinds: what the method changes.
        compiles: whether ``torch.compile`` of the step is tested.
        saves_over_full: whether it holds fewer bytes after the forward pass than full fine-tuning,
            on a supported device.
        devices: the supported device types in torch's notation; empty means all.
        elsewhere: why it has no use on other devices, if ``devices`` is not empty.
        refines: names of methods of the same kind that it can follow in a composition, with
            ``refine`` instead of ``prepare``; the card says what the pair means.
    """

    source: ClassVar[str]
    exact_forward: ClassVar[bool]
    gradient_error: ClassVar[float] = 0.0
    error_growth: ClassVar[float] = 1.0
    kinds: ClassVar[frozenset[Kind]]
    compiles: ClassVar[bool] = False
    saves_over_full: ClassVar[bool] = True
    devices: ClassVar[frozenset[str]] = frozenset()
    elsewhere: ClassVar[str] = ""
    refines: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def name(cls) -> str:
        """Return the method's name: the name of its file."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def prepare(self, model: nn.Module) -> nn.Module:
        """Return the model to train; may change ``model`` in place.

        The optimizer gets exactly the parameters that require a gradient. Wrapping modules is
        allowed, but parameter objects must stay the same: do not copy them.

        Raises:
            Unsupported: the model lacks what the method needs.
        """

    def refine(self, model: nn.Module) -> nn.Module:
        """Return the model to train, given one prepared by a method that ``refines`` names.

        Raises:
            Unsupported: the model lacks what the pair needs.
        """
        kind = type(model).__name__
        raise Unsupported(f"{self.name()} does not refine a {kind} that others have prepared")

    def made_for(self, device: str) -> bool:
        """Tell whether the method supports a device type."""
        return not self.devices or device in self.devices

    def require_device(self, device: str) -> None:
        """Check that the method supports a device type.

        Raises:
            Unsupported: it does not; ``elsewhere`` says why.
        """
        if not self.made_for(device):
            known = " or ".join(sorted(self.devices))
            raise Unsupported(
                f"{self.name()} is made for {known}, not for {device}: {self.elsewhere}"
            )

    def step_done(self) -> None:  # noqa: B027 - optional: most methods have nothing to do
        """Update the state of the method after an optimizer step."""

    def environment(self, device: str) -> dict[str, Any]:  # noqa: ARG002 - for those who override it
        """Return what its numbers on a device type depend on, besides versions.

        It is called at the end of a pass.

        ``fallback`` is a sentence that says that a slower or larger implementation than the best
        one ran; it becomes a note of the record. ``kernel_compile_seconds`` is the time for
        compiling the method's own kernels in this process.
        """
        return {}

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return the tokens after each of ``depth`` blocks, if ``entering`` tokens enter."""
        return (entering,) * depth

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:  # noqa: ARG002 - for those who override it
        """Return the multiply-adds that the method adds to the forward pass of one image.

        Args:
            tokens: the tokens in the output of each block.
            width: the model's embedding dimension.
        """
        return 0

    @classmethod
    def variants(cls, depth: int) -> tuple[dict[str, Any], ...]:  # noqa: ARG003 - for those who override it
        """Return settings of its options, besides the default, that ``bsrbench search`` may try.

        A setting contains only the options that it changes. An empty result means that there is
        nothing to search.

        Args:
            depth: number of blocks of the model.
        """
        return ()


def apply(method: Method, model: nn.Module) -> nn.Module:
    """Return the model that a method has prepared.

    Raises:
        TypeError: the method returned something else.
        Unsupported: the method cannot be applied to it.
    """
    made: object = method.prepare(model)
    if not isinstance(made, nn.Module):
        raise TypeError(
            f"prepare() returned {type(made).__name__}; expected the model to train: 'return model'"
        )
    return made


@dataclass(frozen=True)
class Composed(Method):
    """A composition: each method prepares the model that the previous one returned.

    Attributes:
        parts: the methods, in the order of preparation.
    """

    parts: tuple[Method, ...]

    def __post_init__(self) -> None:
        # Facts of a composition follow from its parts; instances shadow the class attributes.
        facts = {
            "source": " + ".join(part.source for part in self.parts),
            "exact_forward": all(part.exact_forward for part in self.parts),
            "gradient_error": sum(part.gradient_error for part in self.parts)
            * max(part.error_growth for part in self.parts),
            "kinds": frozenset().union(*(part.kinds for part in self.parts)),
            "compiles": all(part.compiles for part in self.parts),
            "saves_over_full": any(part.saves_over_full for part in self.parts),
        }
        for name, value in facts.items():
            object.__setattr__(self, name, value)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Prepare each part in order.

        Raises:
            Unsupported: a part's reason, or two parts of one kind that no card defines as a pair.
        """
        for earlier, later in combinations(self.parts, 2):
            _require_pair(earlier, later)
        for index, part in enumerate(self.parts):
            before = {earlier.name() for earlier in self.parts[:index]}
            model = part.refine(model) if before & part.refines else part.prepare(model)
        return model

    def made_for(self, device: str) -> bool:
        """Tell whether every part supports a device type."""
        return all(part.made_for(device) for part in self.parts)

    def require_device(self, device: str) -> None:
        """Check each part.

        Raises:
            Unsupported: the first part's reason that is not made for it.
        """
        for part in self.parts:
            part.require_device(device)

    def step_done(self) -> None:
        """Update the state of every part after an optimizer step."""
        for part in self.parts:
            part.step_done()

    def environment(self, device: str) -> dict[str, Any]:
        """Return the facts of all parts: fallbacks joined, seconds summed."""
        found = [part.environment(device) for part in self.parts]
        merged = {key: value for facts in found for key, value in facts.items()}
        said = [facts["fallback"] for facts in found if "fallback" in facts]
        spent = [facts[KERNEL_SECONDS] for facts in found if KERNEL_SECONDS in facts]
        if said:
            merged["fallback"] = "; ".join(said)
        if spent:
            merged[KERNEL_SECONDS] = sum(spent)
        return merged

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return the tokens after each block; if several parts change them, the smallest number."""
        each = [part.tokens(entering, depth) for part in self.parts if part.kinds & CHANGES_TOKENS]
        return tuple(min(counts) for counts in zip(*each, strict=True)) or (entering,) * depth

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return the sum of the multiply-adds that the parts add."""
        return sum(part.added_macs(tokens, width) for part in self.parts)


def _require_pair(earlier: Method, later: Method) -> None:
    """Check that one method may follow another.

    Raises:
        Unsupported: they share a kind, and the later one's card does not define the pair.
    """
    shared = sorted(earlier.kinds & later.kinds)
    first, second = earlier.name(), later.name()
    if first in later.refines:
        return
    if not shared and earlier.kinds & CHANGES_TOKENS and later.kinds & CHANGES_TOKENS:
        raise Unsupported(
            f"{first}+{second} is not defined, because one adds tokens and the other drops tokens: "
            "neither defines which of the added tokens may be dropped"
        )
    if not shared:
        return
    turned = f"; {second}+{first} is defined" if second in earlier.refines else ""
    raise Unsupported(
        f"{first}+{second} is not defined, because each {' and '.join(shared)}; compose methods "
        f"that differ in kind{turned}"
    )
