"""The name of a row (method, options and axes), and the label that is printed and typed for it."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from bsrbench.harness.errors import BadInput, shortened
from bsrbench.harness.spec.label_grammar import (
    QUOTE,
    as_json,
    end_of_token,
    in_label,
    json_of,
    leading_name,
    split_at_commas,
)
from bsrbench.harness.spec.workload_axes import AXES, AxisValue, axis_in_words, axis_of_words

MACHINE, LEARNING_RATE = "machine", "learning_rate"
NOT_TRAINED, RATE, TO = "not trained", "learning rate ", " to "
SORTED = json.JSONEncoder(sort_keys=True, default=str)
Rates = tuple[float, float]  # at the peak and at the end
Apart = dict[str, str | Rates | None]


@dataclass(frozen=True)
class RowName:
    """The identity of a row, in every folder and comparison.

    Attributes:
        method: the method as the user wrote it, for example ``"bsr+int8"``.
        options: the options as JSON with sorted keys.
        axes: one value for each of ``AXES``.
    """

    method: str
    options: str
    axes: tuple[AxisValue, ...]

    @classmethod
    def of(cls, method: str, options: Mapping[str, Any], axes: Mapping[str, AxisValue]) -> Self:
        """Return the name of a row with these options and all axes."""
        text = SORTED.encode(options) if options else "{}"
        return cls(method, text, tuple(axes[axis] for axis in AXES))


@dataclass(frozen=True)
class RowLabel:
    """The label of a row, as it is printed and typed; it leaves out the usual axes.

    ``str`` prints a label and ``parse`` reads it, for example
    ``bsr+int8 (bsr={"trained_blocks": [11]}, bf16) [learning rate 0.001]``.

    Attributes:
        method: the method as the user wrote it.
        options: options of the method, in the order in which they were written.
        axes: the axes that differ from the usual values.
        apart: what distinguishes rows with the same name: the machine, or the learning rate at its
            peak and at its end (``None`` means not trained).
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, AxisValue] = field(default_factory=dict)
    apart: Apart = field(default_factory=dict)

    def __str__(self) -> str:
        items = [f"{_key(name)}={as_json(value)}" for name, value in self.options.items()]
        items += [axis_in_words(axis, value) for axis, value in self.axes.items()]
        differences = [_apart_in_words(kind, value) for kind, value in self.apart.items()]
        return (
            in_label(self.method)
            + (f" ({', '.join(items)})" if items else "")
            + (f" [{', '.join(differences)}]" if differences else "")
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the label that a text prints.

        Raises:
            BadInput: an option is not ``key=JSON``, or the text in square brackets is not known.
        """
        method, rest = leading_name(text)
        items, rest = _group(rest, " (")
        differences, rest = _group(rest, " [")
        if rest or not (method or text.startswith(QUOTE)):
            raise BadInput(f"{shortened(text)!r}: expected METHOD (OPTION=VALUE, ..., AXIS, ...)")
        options: dict[str, Any] = {}
        axes: dict[str, AxisValue] = {}
        for item in items:
            if axis := axis_of_words(item):
                axes[axis[0]] = axis[1]
            else:
                name, value = _option(text, item)
                options[name] = value
        apart = dict(_apart_of_words(text, words) for words in differences)
        return cls(method, options, axes, apart)

    def is_plain(self) -> bool:
        """Return whether the label has neither options nor axes."""
        return not (self.options or self.axes)

    def name(self, beside: Mapping[str, AxisValue]) -> RowName:
        """Return the row that the label means, if it leaves out these usual axes."""
        return RowName.of(self.method, self.options, {**beside, **self.axes})


def _group(rest: str, opening: str) -> tuple[list[str], str]:
    """Return the items of the bracket at the beginning of a text, if any, and the rest."""
    if not rest.startswith(opening):
        return [], rest
    end = end_of_token(rest, len(opening) - 1)
    inside = rest[len(opening) : end - 1].strip()
    return split_at_commas(inside) if inside else [], rest[end:]


def _key(name: str) -> str:
    return as_json(name) if "=" in name else in_label(name)


def _option(text: str, item: str) -> tuple[str, Any]:
    if item.startswith(QUOTE):
        end = end_of_token(item, 0)
        name, sign, value = str(json_of(item[:end])), item[end : end + 1], item[end + 1 :]
    else:
        name, sign, value = item.partition("=")
        name = name.strip()
    if sign != "=":
        raise BadInput(
            f"{shortened(text)!r}: {shortened(item)!r} is neither an option (key=JSON) nor an axis "
            "(micro-batch 4, whole batch, fp32, bf16, fp16, compiled, not compiled, "
            "optimizer in backward, optimizer after backward, or an optimizer and its options as "
            "in galore rank=64)"
        )
    try:
        return name, json_of(value)
    except BadInput as error:
        raise BadInput(f"{shortened(text)!r}: option {shortened(name)!r}: {error}") from error


def _apart_in_words(kind: str, value: str | Rates | None) -> str:
    if isinstance(value, tuple):
        peak, end = value
        return f"{RATE}{_rate_in_words(peak)}" + (f"{TO}{_rate_in_words(end)}" if end else "")
    return f"{kind} {in_label(value)}" if value is not None else NOT_TRAINED


def _rate_in_words(rate: float) -> str:
    """Return a learning rate with enough digits to distinguish it from every other one."""
    short = f"{rate:g}"
    return short if float(short) == rate else repr(rate)


def _apart_of_words(text: str, words: str) -> tuple[str, str | Rates | None]:
    if words == NOT_TRAINED:
        return LEARNING_RATE, None
    if words.startswith(f"{MACHINE} "):
        return MACHINE, leading_name(words.removeprefix(f"{MACHINE} "))[0]
    peak, _, end = words.removeprefix(RATE).partition(TO)
    with suppress(ValueError):
        if words.startswith(RATE):
            return LEARNING_RATE, (float(peak), float(end or 0))
    raise BadInput(
        f"{shortened(text)!r}: {shortened(words)!r} is not known in square brackets; expected "
        "'learning rate NUMBER', 'not trained' or 'machine ID'"
    )
