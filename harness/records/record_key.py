"""The key of a record: create it, and read it in its present and older forms."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.frozen_data import digest
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.visible_text import visible

# Packages that compute the numbers of every trial, and packages that read and resize images, which
# only training runs use. Records also have the versions of Python and other packages, which do not
# affect numbers.
COMPUTING = ("torch", "timm", "peft")
READING_IMAGES = ("numpy", "scikit-learn", "pillow", "torchvision")
NOT_INSTALLED = "none"
ANY_MACHINE = ""
HASH_DIGITS = 8
SHOWN = 60  # characters of a key in a message
NAME_LENGTH = 60  # characters of a method in a file name; its end says more than its beginning
NAME_BYTES = 180  # most bytes of these characters; one letter has up to four
MOST_BYTES = 235  # most bytes of a key; with an ending it must fit into a file name of 255

# A file name in a results folder: no separator, no leading dot, nothing that a shell expands.
NAME = re.compile(r"[\w+-][\w+.-]*")
# The method may contain dashes. The parts after the 16 digits of the trial may not.
PART = r"[A-Za-z0-9_+.]+"
FORM = re.compile(
    rf"(?P<method>[\w+-][\w+.-]*)-(?P<trial>[0-9a-f]{{16}})-(?P<source>{PART})"
    rf"(?:-(?P<measuring>{PART})-(?P<settings>{PART}))?-(?P<machine>{PART})"
)
NO_KEY = "expected METHOD-TRIAL-SOURCE-MEASURING-SETTINGS-MACHINE, a name and hashes"
OTHER_SPEC = "its key does not match its spec: one of them was changed"


@dataclass(frozen=True)
class RecordKey:
    """The key of a record; its text is the name of the record's file.

    Attributes:
        method: name of the method, in the form of ``in_file_name``.
        trial: hash of the spec (``TrialSpec.trial_id``).
        source: hash of the method's source.
        measuring: hash of the source of step and meters; ``None`` in keys of schema 5 and older,
            which do not have it.
        settings: hash of versions and settings that affect numbers; ``None`` if ``measuring`` is.
        machine: the machine's id. ``ANY_MACHINE`` stands for any machine; keys of stored records
            never have it.
    """

    method: str
    trial: str
    source: str
    measuring: str | None
    settings: str | None
    machine: str

    def __str__(self) -> str:
        parts = (self.method, self.trial, self.source, self.measuring, self.settings, self.machine)
        return "-".join(part for part in parts if part is not None)

    def on(self, machine: str) -> "RecordKey":
        """Return the key that the same trial has on another machine."""
        return replace(self, machine=machine)


def read_key(text: str) -> RecordKey | None:
    """Return a key from its text; ``None`` if it is not the key of a record."""
    match = FORM.fullmatch(text) if len(text.encode(errors="replace")) <= MOST_BYTES else None
    return RecordKey(**match.groupdict()) if match else None


def fault_of_key(text: str, spec: TrialSpec, stored: object = None) -> str:
    """Return why no record of a trial can have this key; empty if one can.

    Args:
        text: the key.
        spec: the trial.
        stored: the spec in the record's file; in schema 1 the trial id is the hash of it.
    """
    key = read_key(text)
    if key is None:
        shown = visible(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
        return f"its key '{shown}' is not valid: {NO_KEY}"
    fits = key.trial == spec.trial_id() or key.trial == digest(stored)
    return "" if fits else OTHER_SPEC


def is_name(text: str) -> bool:
    """Return whether a text can be the name of a file in a results folder, without its ending."""
    return NAME.fullmatch(text) is not None and len(text.encode("utf-8", "replace")) <= MOST_BYTES


def require_name(text: str) -> str:
    """Return a key or another file name in a results folder, after checking it.

    Raises:
        BadInput: it could be a path outside the folder, or it is too long.
    """
    if is_name(text):
        return text
    raise BadInput(
        f"{visible(text[:SHOWN])!r} cannot be a file name in a results folder: expected letters, "
        f"digits, '-', '_', '+' and '.', at most {MOST_BYTES} bytes"
    )


def in_file_name(method: str) -> str:
    """Return a method's name in a form that a file name can contain."""
    kept = "".join(c if c.isalnum() or c in "+-_" else "_" for c in method)[-NAME_LENGTH:]
    while len(kept.encode()) > NAME_BYTES:
        kept = kept[1:]
    return kept


def deciding_versions(spec: TrialSpec, versions: Mapping[str, str]) -> dict[str, str]:
    """Return the installed versions of the packages that affect a trial's numbers."""
    names = (*COMPUTING, *(READING_IMAGES if spec.training else ()))
    return {name: versions.get(name, NOT_INSTALLED) for name in names}


def settings_hash(spec: TrialSpec, versions: Mapping[str, str], settings: Mapping[str, str]) -> str:
    """Return the hash of the versions and settings that affect a trial's numbers.

    Args:
        spec: the trial.
        versions: package -> version, as a record's environment holds them.
        settings: name -> value, as a record's environment holds them.
    """
    decided = {"versions": deciding_versions(spec, versions), "settings": dict(settings)}
    return digest(decided)[:HASH_DIGITS]
