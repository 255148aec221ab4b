"""The contract of a fine-tuning method, and methods prepared one after the other."""

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
    """How a pretrained vision transformer is made ready for cheap fine-tuning.

    A method is one frozen dataclass in one file. Its fields are the options a suite may set;
    ``__post_init__`` checks their values and raises ``ValueError``.

    Attributes:
        source: paper and section, or "baseline".
        exact_forward: logits equal those of the untouched model.
        gradient_error: bound on ``|g - g'| / |g'|`` over the trained parameters together, g' by
            exact autograd of the method's own forward; 0.0 is exact.
        error_growth: factor by which the bound of a method composed with this one grows, because
            the error is larger in what this one trains.
        kinds: what it changes.
        compiles: whether ``torch.compile`` of the step is tested.
        saves_over_full: holds fewer bytes after the forward pass than full fine-tuning, on a device
            it is made for.
        devices: types of device it is made for, as torch calls them; empty is any.
        elsewhere: why it is of no use on others, where there are such.
        refines: names of methods of a kind it shares that it can follow in a composition, by
            ``refine`` in the place of ``prepare``; the card says what the pair means.
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
        """Return the method's name, which is its file's."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def prepare(self, model: nn.Module) -> nn.Module:
        """Return the model to train; may change ``model`` in place.

        The harness gives the optimizer exactly the parameters that ask for a gradient.
        Parameter objects are kept: wrapping modules is fine, copying parameters is not.

        Raises:
            Unsupported: the model lacks what the method needs.
        """

    def refine(self, model: nn.Module) -> nn.Module:
        """Return a model prepared by a method that ``refines`` names, prepared further.

        Raises:
            Unsupported: the model lacks what the pair needs.
        """
        kind = type(model).__name__
        raise Unsupported(f"{self.name()} does not refine a {kind} that others have prepared")

    def made_for(self, device: str) -> bool:
        """Tell whether it does on a type of device what its card says."""
        return not self.devices or device in self.devices

    def require_device(self, device: str) -> None:
        """Check that it is made for a type of device.

        Raises:
            Unsupported: it is not; ``elsewhere`` says why.
        """
        if not self.made_for(device):
            known = " or ".join(sorted(self.devices))
            raise Unsupported(
                f"{self.name()} is made for {known}, not for {device}: {self.elsewhere}"
            )

    def step_done(self) -> None:  # noqa: B027 - optional: most methods have nothing to do
        """Be told that an optimizer step is done."""

    def environment(self, device: str) -> dict[str, Any]:  # noqa: ARG002 - for those who override it
        """Return what its numbers on a type of device depend on beside versions.

        Asked for at the end of a pass.

        ``fallback``, a sentence, says that something slower or larger ran than the method's
        best, and becomes a note of the record; ``kernel_compile_seconds`` is what its own
        kernels took to be compiled in this process.
        """
        return {}

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return how many tokens each of ``depth`` blocks passes on, ``entering`` at the start."""
        return (entering,) * depth

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:  # noqa: ARG002 - for those who override it
        """Return the multiply-adds of one image's forward pass that the model alone has not.

        Args:
            tokens: those each block passes on.
            width: the model's embedding dimension.
        """
        return 0

    @classmethod
    def variants(cls, depth: int) -> tuple[dict[str, Any], ...]:  # noqa: ARG003 - for those who override it
        """Return settings of its options, beside the default, that ``bsrbench search`` may try.

        A setting leaves out options that stay as they are. None means there is nothing to search.

        Args:
            depth: blocks of the model.
        """
        return ()


def apply(method: Method, model: nn.Module) -> nn.Module:
    """Return what a method makes of a model.

    Raises:
        TypeError: that is no model.
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
    """Methods prepared in order, each on what the one before returned.

    Attributes:
        parts: the methods, first prepared first.
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
        """Tell whether every part is."""
        return all(part.made_for(device) for part in self.parts)

    def require_device(self, device: str) -> None:
        """Check each part.

        Raises:
            Unsupported: the first part's reason that is not made for it.
        """
        for part in self.parts:
            part.require_device(device)

    def step_done(self) -> None:
        """Tell every part."""
        for part in self.parts:
            part.step_done()

    def environment(self, device: str) -> dict[str, Any]:
        """Return what the parts say: fallbacks one after the other, seconds added up."""
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
        """Return what the part that drops or adds tokens passes on; of several, the fewest."""
        each = [part.tokens(entering, depth) for part in self.parts if part.kinds & CHANGES_TOKENS]
        return tuple(min(counts) for counts in zip(*each, strict=True)) or (entering,) * depth

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return what the parts add, together."""
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
            f"{first}+{second} is not defined, because one adds tokens and the other drops some: "
            "which of the added ones may be dropped, neither says"
        )
    if not shared:
        return
    turned = f"; {second}+{first} is defined" if second in earlier.refines else ""
    raise Unsupported(
        f"{first}+{second} is not defined, because each {' and '.join(shared)}; compose methods "
        f"that differ in kind{turned}"
    )
