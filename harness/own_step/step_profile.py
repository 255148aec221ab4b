"""The cost of a user's own step, as text and as a drawing in notebooks."""

import html
from dataclasses import dataclass
from statistics import median
from typing import Any

from bsrbench.reports import units
from bsrbench.reports.figures.palette import CATEGORY_COLOURS

SHOWN = 5  # modules in a drawing


@dataclass(frozen=True)
class StepProfile:
    """The cost of a user's own step; it draws itself in a notebook.

    Attributes:
        peak_counted_bytes: peak bytes of live tensors on the model's device, as in ``METRICS``;
            ``None`` if a part of the step is compiled.
        held_after_forward_bytes: saved activations when a backward pass began; with several
            passes, the largest. ``None`` if a part of the step is compiled; then the next two
            fields are empty.
        at_peak_bytes: the peak by category.
        by_module_bytes: saved activations when that backward pass began, by module, largest first.
        forward_flop: FLOPs outside of backward passes and optimizers, 2 per multiply-add.
        step_flop: FLOPs of the whole step.
        step_seconds: seconds of each timed repetition, without meters.
        notes: notes for a reader of the results.
    """

    peak_counted_bytes: int | None
    held_after_forward_bytes: int | None
    at_peak_bytes: dict[str, int]
    by_module_bytes: dict[str, int]
    forward_flop: int
    step_flop: int
    step_seconds: tuple[float, ...]
    notes: tuple[str, ...] = ()

    def rows(self) -> list[tuple[str, str]]:
        """Return names and values as text, scaled and rounded."""
        seconds = self.step_seconds
        spread = f"{units.milliseconds(min(seconds))} to {units.milliseconds(max(seconds))}"
        rows = [
            ("peak memory (counted)", _mebibytes(self.peak_counted_bytes)),
            ("held after forward", _mebibytes(self.held_after_forward_bytes)),
            ("FLOPs of the forward pass", f"{units.gigaflop(self.forward_flop)} GFLOP"),
            ("FLOPs of the step", f"{units.gigaflop(self.step_flop)} GFLOP"),
            (f"time of the step (median of {len(seconds)})", f"{median(seconds) * 1e3:,.1f} ms"),
            ("fastest to slowest", f"{spread} ms"),
        ]
        rows += [
            (f"at the peak: {category.replace('_', ' ')}", _mebibytes(size))
            for category, size in self.at_peak_bytes.items()
            if size
        ]
        largest = list(self.by_module_bytes.items())[:SHOWN]
        rows += [(f"saved by {name}", _mebibytes(size)) for name, size in largest]
        return rows + [("note", note) for note in self.notes]

    def __str__(self) -> str:
        """Return one line per number."""
        return "\n".join(f"{name}: {what}" for name, what in self.rows())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002 - IPython's protocol
        """Show the same lines at IPython's prompt."""
        printer.text(str(self))

    def _repr_html_(self) -> str:
        """Return a bar of the peak by category, its legend and a table, for notebooks."""
        total = max(1, self.peak_counted_bytes or 0)
        parts = legend = ""
        for category, size in self.at_peak_bytes.items():
            colour, name = f"background:{CATEGORY_COLOURS[category]}", category.replace("_", " ")
            if size:
                parts += f'<div style="width:{100 * size / total:.2f}%;{colour}"></div>'
                square = f'<span style="display:inline-block;width:.8em;height:.8em;{colour}">'
                legend += f"{square}</span> {name} &nbsp; "
        bar = f'<div style="display:flex;height:1.2em;max-width:40em">{parts}</div>{legend}'
        body = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:right'>{html.escape(what)}</td></tr>"
            for name, what in self.rows()
        )
        return f"{bar}<table>{body}</table>"


def _mebibytes(size: int | None) -> str:
    return "not counted" if size is None else f"{units.mebibytes(size)} MiB"
