"""Makes the page of models from the table that ``tox -e models`` writes; needs no torch."""

import csv
from collections import defaultdict
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "results" / "models"
WORKS = "="
FACTS = ("model", "class", "structure", "parameters", "blocks", "side", "tokens")

HEAD = """# Models

This page says which methods work on which of {count} vision transformers of timm (1.0). It covers
all models of timm's class `VisionTransformer` ({plain} models, which `bsrbench list models` lists)
and all models with a class token. `tox -e models` tests every method on every model, with nothing
executed, and makes this page.

A method **works** on a model if all of these statements are true:

- It prepares the model.
- The number of trained parameters is that of a rule over names and shapes, which does not use the
  method.
- Each block passes on as many tokens as the arithmetic of the paper says.
- A forward and a backward pass run, and every trained parameter gets a gradient.
- In evaluation, as many tokens pass the MLP of each block as the same arithmetic says.
- The multiply-adds that bsrbench counts equal those of torch's own counter. Fused attention is
  added to the latter, because torch counts it as 0 on a CPU.

Parameters and declared tokens are those of the whole model. If all blocks of a model are alike, the
passes run over its first blocks only. They use the small image size that the table behind this
page, `results/models/models.csv`, names.

Otherwise the method is **Unsupported**, with a reason. `tox -e models` checks that the reason is
true of the model.

The defaults of `bsr`, `evit`, `repnet`, `dtl` and `sparse_tuning` are the papers' blocks of twelve.
For a model with another number of blocks, the test sets these options. It always sets the ranks of
`asi` and `wasi`, because otherwise the ranks follow from numbers, and a random weight has hardly a
smaller rank. The multiply-adds of `dyt`, `asi` and `wasi` in evaluation also equal a formula.
Before the count, the biases of `dyt` are moved until half of the patches of an image are chosen; if
there are no numbers, half are taken. `offload` is made for GPUs; the test shows only that a step
runs.

The newest methods, `dtl`, `vqt`, `sparse_tuning`, `dyt`, `mslnorm`, `asi` and `wasi`, have been
tried on one model of each kind of block, but not yet on all models. The tables lack them.

**Two heads.** A distilled model (`deit_*_distilled_*`, `pit_*_distilled_*`) has one head for its
class token and one for its distillation token. Every method that works on it trains both. The
logits are the mean of the logits of both heads, in training and in evaluation. The loss is the
cross-entropy of this mean, and accuracy uses its largest value. timm does the same without a
teacher. DeiT's own distillation, in which the loss of a teacher trains only the second head, is not
supported. VOLO has two heads
too, and both are trained. Half of the largest logits that the second head finds among the patches
is added to the logits of the class token, as in timm without token labels.
"""


def page() -> str:
    """Return the page."""
    rows = _read(FOLDER / "models.csv")
    meanings = {row["reason"]: row["meaning"] for row in _read(FOLDER / "reasons.csv")}
    plain = sum(row["tokens"] != "0" for row in rows)
    parts = [HEAD.format(count=len(rows), plain=plain)]
    alike = defaultdict(list)
    for row in rows:
        outcomes = tuple((name, what) for name, what in row.items() if name not in FACTS)
        alike[outcomes].append(row)
    for outcomes, members in sorted(alike.items(), key=lambda item: (-len(item[1]), item[0])):
        parts += _group(outcomes, members, meanings)
    return "\n\n".join(parts) + "\n"


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _group(
    outcomes: tuple[tuple[str, str], ...],
    members: list[dict[str, str]],
    meanings: dict[str, str],
) -> list[str]:
    """Return a heading, what works, what does not and why, and the models."""
    refused = defaultdict(list)
    for method, what in outcomes:
        refused[what].append(f"`{method}`")
    works = refused.pop(WORKS, [])
    classes = ", ".join(sorted({f"`{row['class']}`" for row in members}))
    counted = "1 model" if len(members) == 1 else f"{len(members)} models"
    methods = f"{len(works)} methods" if works else "No method"
    heading = f"## {methods if refused else 'All methods'}, {counted}"
    what = f"{', '.join(works)} work" if works else "no method passes all tests"
    what = what if refused else "every method works"
    lines = [f"- {', '.join(names)}: {meanings[key]}." for key, names in sorted(refused.items())]
    names = ", ".join(f"`{row['model']}`" for row in members)
    return [heading, f"Class {classes}: {what}.", *(["\n".join(lines)] if lines else []), names]
