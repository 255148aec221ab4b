"""Read a record thoroughly: say what is wrong with it, or upgrade it and take it."""

import json
import re
from typing import Any

import orjson
from pydantic import ValidationError

from bsrbench.harness.errors import BadInput
from bsrbench.harness.plain_data import fault_in
from bsrbench.harness.records.record_content import CHANGED, HASH, hash_of
from bsrbench.harness.records.record_key import fault_of_key
from bsrbench.harness.records.schema_upgrade import upgrade
from bsrbench.harness.records.trial_record import SCHEMA_VERSION, TrialRecord
from bsrbench.harness.visible_text import visible, visible_in

# The store writes ASCII. In such text a character that acts (bsrbench.harness.visible_text) is an escape.
ESCAPED = re.compile(rb"\\(?:[bfr]|u(?:00[01789]|061|20[026]|d[89a-f]|fe|ff))", re.IGNORECASE)
LONGEST = 500  # characters of a reason
ASKED = ("schema_version", "spec", "key", HASH)  # is refused rather than made visible


def plainly_text(text: bytes) -> bool:
    """Tell whether no text of a record can hold a character that acts; cheap, and may doubt."""
    if not text.isascii() or b"\x7f" in text:
        return False
    return b"\\" not in text or ESCAPED.search(text) is None


def validated(text: bytes) -> TrialRecord:
    """Return a record of the present schema from the text of its file.

    Text but for the spec's is made visible; a record whose content is not as it was stored has
    ``CHANGED`` among its notes.

    Raises:
        BadInput: it is none; the message does not name the file.
    """
    try:
        return _record(text)
    except BadInput:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        what = str(first["msg"]).removeprefix("Value error, ")
        raise BadInput(f"not a valid record ({f'{place}: ' if place else ''}{what})") from error
    except (KeyError, AttributeError, TypeError) as error:
        raise BadInput(f"not a valid record ({type(error).__name__}: {error})") from error
    except RecursionError as error:
        raise BadInput("not a valid record (it is nested too deep)") from error
    except ValueError as error:
        raise BadInput(str(error)) from error


def _record(text: bytes) -> TrialRecord:
    try:
        data: Any = orjson.loads(text)
    except ValueError as error:
        raise BadInput(f"not a readable record ({error})") from error
    if not isinstance(data, dict):
        raise BadInput("not a record (a JSON object was expected)")
    if fault := fault_in(data):
        raise BadInput(f"not a valid record ({fault})")
    changed = data.get("schema_version") == SCHEMA_VERSION and data.get(HASH) != hash_of(data)
    stored = data.get("spec")
    data = upgrade(data)
    shown = {name: v if name in ASKED else visible_in(v) for name, v in data.items()}
    record = TrialRecord.model_validate_json(json.dumps(shown))
    if fault := fault_of_key(record.key, record.spec, stored):
        raise BadInput(fault)
    if changed:
        return record.model_copy(update={"notes": [CHANGED, *record.notes]})
    return record


def named(path: str, error: BadInput) -> BadInput:
    """Return an error about a file with the name of the file."""
    return BadInput(visible(f"{path}: {error!s:.{LONGEST}}"))
