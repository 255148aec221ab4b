"""Makes the page of models from the table that ``tox -e models`` writes; needs no torch."""

import csv
from collections import defaultdict
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "results" / "models"
WORKS = "="
FACTS = ("model", "class", "structure", "parameters", "blocks", "side", "tokens")

HEAD = """# Models

Which method works on which of timm's vision transformers: all {count} models that timm (1.0) makes
by its class `VisionTransformer` (`bsrbench list models` names these {plain}) or that have a class
token. `tox -e models` walks every method over every one of them, with nothing executed, and makes
this page. That a method **works** means: it prepares the model; as many parameters train as a rule
over names and shapes says that knows nothing of the method; each block passes on as many tokens as
the paper's arithmetic says; a forward and a backward pass go through, and every trained parameter
gets a gradient; and the multiply-adds that bsrbench counts are those that torch's own counter sees
(with fused attention, which that one counts as nothing on a CPU). Parameters and declared tokens
are those of the whole model, the passes of its first blocks, where all are alike, and at the small
image size that the table behind this page, `results/models/models.csv`, names. Elsewhere the method
says **Unsupported**, and the reason it gives was found to be true of the model.

Where a model has another number of blocks than twelve, `bsr`, `evit` and `repnet` were told which
ones to take: their defaults are the papers' choice for twelve. `offload` is made for GPUs; what the
walk shows of it is that a step goes through.

**Two heads.** A distilled model (`deit_*_distilled_*`, `pit_*_distilled_*`) has a head for its
class token and one for its distillation token. Both train, under every method. Its logits are the
mean of both heads' logits, in training and in evaluation; the loss is cross-entropy of that mean,
and accuracy reads its largest. That is what timm does where there is no teacher; DeiT's own
distillation, a teacher's loss on the second head alone, is not here. VOLO has two heads, too, of
which both train: half the largest logits that the second finds among the patches are added to those
of the class token, as timm does without token labels.
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
    methods = f"{len(works)} methods" if works else "No method whole"
    heading = f"## {methods if refused else 'All methods'}, {counted}"
    what = f"{', '.join(works)} work" if works else "no method has every number"
    what = what if refused else "every method works"
    lines = [f"- {', '.join(names)}: {meanings[key]}." for key, names in sorted(refused.items())]
    names = ", ".join(f"`{row['model']}`" for row in members)
    return [heading, f"Of {classes}; {what}.", *(["\n".join(lines)] if lines else []), names]
