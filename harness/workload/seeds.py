"""Seeds of what a trial draws."""

import hashlib

SEED_BYTES = 4  # torch's generator on the CPU ignores all others


def seed_of(*parts: object) -> int:
    """Return a pseudo-random seed that depends only on the parts."""
    text = " ".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=SEED_BYTES).digest())
