"""The hash of a record's own content, by which a number that was changed later is noticed.

It detects accidents: whoever changes a record on purpose can compute it anew.
"""

import hashlib
import json
from typing import Any

HASH = "content_sha256"
BEFORE_HASH = f',\n "{HASH}": '.encode()
END = b"\n}\n"
TAIL_LENGTH = len(BEFORE_HASH) + len('""') + hashlib.sha256().digest_size * 2 + len(END)
CHANGED = (
    "changed after it was stored: its content is not that of its content_sha256 (an accident, or "
    "somebody's hand)"
)


def text_of(data: dict[str, Any]) -> str:
    """Return a record as a file holds it: its JSON, and last the hash of all before it."""
    start = _start(data)
    return f'{start.decode()}{BEFORE_HASH.decode()}"{_hash(start)}"{END.decode()}'


def hash_of(data: dict[str, Any]) -> str:
    """Return the hash of a record's JSON as it was parsed; indentation changes nothing."""
    return _hash(_start(data))


def hash_fits(text: bytes) -> bool:
    """Tell whether a file is as ``text_of`` wrote it, without making its text anew."""
    start, tail = memoryview(text)[:-TAIL_LENGTH], text[-TAIL_LENGTH:]
    digest = hashlib.sha256(start, usedforsecurity=False).hexdigest()
    return tail == b'%b"%b"%b' % (BEFORE_HASH, digest.encode(), END)


def _start(data: dict[str, Any]) -> bytes:
    rest = {name: value for name, value in data.items() if name != HASH}
    return json.dumps(rest, indent=1, allow_nan=False).removesuffix("\n}").encode()


def _hash(start: bytes) -> str:
    return hashlib.sha256(start).hexdigest()
