"""What came of every method on a model, kept until a source changes."""

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import timm
import torch

from tests.walk import listing, rules
from tests.walk.cells import Subject, outcome
from tests.walk.subjects import subject_of
from tests.walk.table import Row

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "results" / "local" / "models"
SOURCES = (
    *(
        "methods",
        "harness/model/vit.py",
        "harness/model/attention.py",
        "harness/model/experts.py",
        "harness/meters/forward_macs.py",
    ),
    *(f"tests/walk/{name}.py" for name in ("cells", "counts", "listing", "rules")),
)
FAILED = "!"  # begins what is said of a cell that is neither equal nor a true reason


def walked(name: str) -> Row | None:
    """Return what came of each method on a model; ``None`` where it is no such model."""
    torch.set_num_threads(1)
    source = _source()
    if not listing.is_walked(listing.outline(name)):
        return None
    subject = subject_of(name)
    kept = KEPT / f"{listing.built_as(subject.untouched)}-{subject.pixels}.json"
    outcomes = _read(kept) or _outcomes(subject)
    KEPT.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"source": source, "outcomes": outcomes}), encoding="utf-8")
    return _row(subject, outcomes)


def _read(kept: Path) -> dict[str, str] | None:
    """Return what came of it before; ``None`` where something failed, or a source has changed."""
    before = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if before.get("source") != _source() or list(failed(before["outcomes"])):
        return None
    outcomes: dict[str, str] = before["outcomes"]
    return outcomes


def _outcomes(subject: Subject) -> dict[str, str]:
    outcomes = {}
    for name in listing.WALKED:
        try:
            outcomes[name] = outcome(subject, name)
        except Exception as error:  # noqa: BLE001 - whatever a method raises is a finding
            outcomes[name] = f"{FAILED} {type(error).__name__}: {error}".splitlines()[0]
    return outcomes


def failed(outcomes: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield methods that are wrong on a model, and what is."""
    return ((method, what) for method, what in outcomes.items() if what.startswith(FAILED))


def _row(subject: Subject, outcomes: dict[str, str]) -> Row:
    model = subject.untouched
    plain = listing.is_plain(model)
    return Row(
        subject.name,
        type(model).__name__,
        listing.structure(model),
        sum(part.numel() for part in model.parameters()),
        subject.depth,
        subject.pixels,
        rules.entering(model) if plain else 0,
        outcomes,
    )


@cache
def _source() -> str:
    """Return a hash of what decides the outcomes, as it was when this process began to walk."""
    files = [path for place in SOURCES for path in _files(ROOT / place)]
    text = b"\0".join(path.read_bytes() for path in sorted(files))
    versions = f"{torch.__version__} {timm.__version__}"
    return hashlib.sha256(text + versions.encode()).hexdigest()[:16]


def _files(place: Path) -> Iterator[Path]:
    yield from [place] if place.is_file() else place.rglob("*.py")
