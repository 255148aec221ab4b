"""What the conformance checks cannot show: whether a method does what its source says."""

from bsrbench.harness.method import Kind

UNSEEN = {
    Kind.SELECTS_WEIGHTS: "which parameters train: it is seen that those that ask for a gradient "
    "move, and no others, not that they are the right ones",
    Kind.STORES_ACTIVATIONS: "how little is kept, and what is computed again: it is seen that "
    "fewer bytes are alive than under full fine-tuning, not that they are as few as could be",
    Kind.DROPS_TOKENS: "which tokens are dropped: it is seen how many go, not that those that stay "
    "are the ones the method should rank first",
    Kind.ADDS_TOKENS: "what the added tokens begin as and where they stand: it is seen how many "
    "there are, and that they train",
}


def unseen(kinds: frozenset[Kind]) -> list[str]:
    """Return what a method's own tests must show, a line for each kind of change it makes."""
    return [UNSEEN[kind] for kind in Kind if kind in kinds]
