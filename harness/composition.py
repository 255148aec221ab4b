"""The composition of several fine-tuning methods into one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

from torch import Tensor, nn

from bsrbench.harness.method import NOTED_FACTS, PAPER_DEPTH, Kind, Method, State, Unsupported

KERNEL_SECONDS = "kernel_compile_seconds"
NO_GRADIENT = "floating point dtype can require gradients"  # torch's message about codes
CHANGES_TOKENS = frozenset({Kind.DROPS_TOKENS, Kind.ADDS_TOKENS})


@dataclass(frozen=True)
class Composed(Method):
    """Several methods applied in order, each to the model that the previous one returned.

    Attributes:
        parts: the methods, in the order in which they are applied.
    """

    parts: tuple[Method, ...]

    def __post_init__(self) -> None:
        # The attributes of a composition follow from its parts; they shadow the class attributes.
        facts = {
            "source": " + ".join(part.source for part in self.parts),
            "exact_forward": all(part.exact_forward for part in self.parts),
            "gradient_error": sum(part.gradient_error for part in self.parts)
            * max(part.error_growth for part in self.parts),
            "forward_error": sum(part.forward_error for part in self.parts),
            "forward_passes": max(part.forward_passes for part in self.parts),
            "evaluates_alike": all(part.evaluates_alike for part in self.parts),
            "kinds": frozenset().union(*(part.kinds for part in self.parts)),
            "compiles": all(part.compiles for part in self.parts),
            "saves_over_full": any(part.saves_over_full for part in self.parts),
        }
        for name, value in facts.items():
            object.__setattr__(self, name, value)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Prepare each part in order.

        Raises:
            Unsupported: a part raised it, two parts of one kind are not defined as a pair, or a
                part trains weights that an earlier one stores in fewer bits.
        """
        for earlier, later in combinations(self.parts, 2):
            _require_pair(earlier, later)
        for index, part in enumerate(self.parts):
            before = {earlier.name() for earlier in self.parts[:index]}
            prepare = part.refine if before & part.refines else part.prepare
            try:
                model = prepare(model)
            except RuntimeError as error:
                if NO_GRADIENT not in str(error):
                    raise
                raise Unsupported(
                    f"{part.name()} trains weights that {'+'.join(sorted(before))} stores in fewer "
                    "bits: name a method that stores weights after those that choose what trains"
                ) from error
        return model

    def within(self, predicted_peak: Callable[[Method], int], depth: Callable[[], int]) -> Method:
        """Let each part choose; the predicted peak is always that of the whole composition.

        Raises:
            Unsupported: a part has no setting that is within its budget.
        """
        chosen = self
        for index, part in enumerate(self.parts):
            fitted = part.within(partial(_peak_of_whole, predicted_peak, chosen, index), depth)
            if fitted is not part:
                chosen = _replaced(chosen, index, fitted)
        return chosen

    def made_for(self, device: str) -> bool:
        """Return whether every part is made for a device type."""
        return all(part.made_for(device) for part in self.parts)

    def require_device(self, device: str) -> None:
        """Check that every part is made for a device type.

        Raises:
            Unsupported: from the first part that is not.
        """
        for part in self.parts:
            part.require_device(device)

    def step_done(self) -> None:
        """Call ``step_done`` of every part."""
        for part in self.parts:
            part.step_done()

    def settle(self, model: nn.Module, images: Tensor) -> None:
        """Call ``settle`` of every part, with images [batch, 3, side, side]."""
        for part in self.parts:
            part.settle(model, images)

    def states(self, model: nn.Module) -> tuple[State, ...]:
        """Return the states of the part that has some; a pair of two such parts is not defined."""
        return next((found for part in self.parts if (found := part.states(model))), ())

    def state_at(self, step: int, seed: int, model: nn.Module) -> State:
        """Return the state of a training step of the part that has states."""
        return self._moving(model).state_at(step, seed, model)

    def enter(self, model: nn.Module, state: State) -> None:
        """Make exactly those parameters trainable that train in a state."""
        self._moving(model).enter(model, state)

    def cycle_steps(self, model: nn.Module) -> int:
        """Return the number of steps of a cycle of the part that has states."""
        return max(part.cycle_steps(model) for part in self.parts)

    def losses(
        self,
        model: nn.Module,
        forward: Callable[[], Tensor],
        loss_of: Callable[[Tensor], Tensor],
    ) -> Iterator[Tensor]:
        """Yield the terms of the loss of logits [n, classes], of the part that has its own loss.

        Each term has the shape [].
        """
        own = next((part for part in self.parts if has_own_loss(part)), self.parts[0])
        return own.losses(model, forward, loss_of)

    def gradients(
        self,
        model: nn.Module,
        parameters: Sequence[Tensor],
        loss: Callable[[], Tensor],
        seed: int,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield parameters of any shape with the estimates of the part that estimates gradients."""
        part = next(part for part in self.parts if Kind.ESTIMATES_GRADIENT in part.kinds)
        return part.gradients(model, parameters, loss, seed)

    def environment(self, device: str) -> dict[str, Any]:
        """Return the facts of all parts: sentences are joined, compile times are added."""
        each = [part.environment(device) for part in self.parts]
        merged = {key: value for facts in each for key, value in facts.items()}
        spent = [facts[KERNEL_SECONDS] for facts in each if KERNEL_SECONDS in facts]
        for key in NOTED_FACTS:
            if said := [facts[key] for facts in each if key in facts]:
                merged[key] = "; ".join(said)
        if spent:
            merged[KERNEL_SECONDS] = sum(spent)
        return merged

    def kernels_to_compile(self, device: str) -> tuple[str, ...]:
        """Return the kernels of all parts, each once."""
        each = (part.kernels_to_compile(device) for part in self.parts)
        return tuple(dict.fromkeys(name for names in each for name in names))

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return the token counts of the part that changes tokens; of several, the smallest."""
        each = [part.tokens(entering, depth) for part in self.parts if part.kinds & CHANGES_TOKENS]
        return tuple(min(counts) for counts in zip(*each, strict=True)) or (entering,) * depth

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int | None:
        """Return the sum of the multiply-adds that the parts add; ``None`` if one is not known."""
        each = [part.added_macs(tokens, width) for part in self.parts]
        known = [added for added in each if added is not None]
        return sum(known) if len(known) == len(each) else None

    def _moving(self, model: nn.Module) -> Method:
        return next(part for part in self.parts if part.states(model))


def _peak_of_whole(
    predicted_peak: Callable[[Method], int], whole: Composed, index: int, part: Method
) -> int:
    """Return the predicted peak of a composition with another method in one place."""
    return predicted_peak(_replaced(whole, index, part))


def _replaced(whole: Composed, index: int, part: Method) -> Composed:
    return Composed((*whole.parts[:index], part, *whole.parts[index + 1 :]))


def without_stored_weights(method: Method) -> Method:
    """Return a composition without the methods that store weights; any other method as it is."""
    if not isinstance(method, Composed):
        return method
    return Composed(tuple(p for p in method.parts if Kind.STORES_WEIGHTS not in p.kinds))


def changes_after_steps(method: Method) -> bool:
    """Return whether a method, or a part of a composition, does something after each step."""
    parts = method.parts if isinstance(method, Composed) else (method,)
    return any(type(part).step_done is not Method.step_done for part in parts)


def has_own_loss(method: Method) -> bool:
    """Return whether a method, or a part of a composition, has a loss of its own."""
    parts = method.parts if isinstance(method, Composed) else (method,)
    return any(type(part).losses is not Method.losses for part in parts)


def _require_one_loss(earlier: Method, later: Method) -> None:
    """Check that not both methods decide what the loss of a step is, or how it is used.

    Raises:
        Unsupported: both have a loss of their own, or one has and the other estimates gradients.
    """
    names = f"{earlier.name()}+{later.name()} is not defined, because"
    pair = (earlier, later)
    owners = [method.name() for method in pair if has_own_loss(method)]
    estimating = [method.name() for method in pair if Kind.ESTIMATES_GRADIENT in method.kinds]
    if len(owners) > 1:
        raise Unsupported(f"{names} both methods have a loss of their own")
    if owners and estimating:
        raise Unsupported(
            f"{names} {owners[0]} has a loss of its own with a backward pass for each term, and "
            f"{estimating[0]} has no backward pass"
        )


def _require_pair(earlier: Method, later: Method) -> None:
    """Check that one method may follow another.

    Raises:
        Unsupported: they have a kind in common, and the later method does not define the pair; or
            their losses do not go together.
    """
    _require_one_loss(earlier, later)
    shared = sorted(earlier.kinds & later.kinds)
    first, second = earlier.name(), later.name()
    if first in later.refines:
        return
    if not shared and earlier.kinds & CHANGES_TOKENS and later.kinds & CHANGES_TOKENS:
        raise Unsupported(
            f"{first}+{second} is not defined, because one adds tokens and the other drops tokens, "
            "and neither paper says whether added tokens may be dropped"
        )
    if not shared:
        return
    turned = f"; {second}+{first} is defined" if second in earlier.refines else ""
    kinds = " and ".join(f"'{kind}'" for kind in shared)
    raise Unsupported(
        f"{first}+{second} is not defined, because both methods have the "
        f"{'kind' if len(shared) == 1 else 'kinds'} {kinds}: combine methods of different "
        f"kinds{turned}"
    )
