"""The hash of a record's content, which detects a number that was changed later.

It detects accidents only: somebody who changes a record on purpose can also change the hash.
"""

import hashlib
import json
from typing import Any

HASH = "content_sha256"
BEFORE_HASH = f',\n "{HASH}": '.encode()
END = b"\n}\n"
TAIL_LENGTH = len(BEFORE_HASH) + len('""') + hashlib.sha256().digest_size * 2 + len(END)
CHANGED = (
    "changed after it was stored: its content does not match its content_sha256 (by accident or "
    "by hand)"
)


def text_of(data: dict[str, Any]) -> str:
    """Return the text of a record's file: its JSON, with the hash of its content at the end."""
    start = _start(data)
    return f'{start.decode()}{BEFORE_HASH.decode()}"{_hash(start)}"{END.decode()}'


def hash_of(data: dict[str, Any]) -> str:
    """Return the hash of a record's parsed JSON; it does not depend on indentation."""
    return _hash(_start(data))


def hash_fits(text: bytes) -> bool:
    """Return whether a file has the form of ``text_of`` and the right hash; without parsing it."""
    start, tail = memoryview(text)[:-TAIL_LENGTH], text[-TAIL_LENGTH:]
    digest = hashlib.sha256(start, usedforsecurity=False).hexdigest()
    return tail == b'%b"%b"%b' % (BEFORE_HASH, digest.encode(), END)


def _start(data: dict[str, Any]) -> bytes:
    rest = {name: value for name, value in data.items() if name != HASH}
    return json.dumps(rest, indent=1, allow_nan=False).removesuffix("\n}").encode()


def _hash(start: bytes) -> str:
    return hashlib.sha256(start).hexdigest()
