"""What the conformance checks cannot show: whether a method does what its source says."""

from bsrbench.harness.method import Kind

UNSEEN = {
    Kind.SELECTS_WEIGHTS: "which parameters train: the checks test that only parameters with "
    "requires_grad change, but not that these are the right parameters",
    Kind.STORES_ACTIVATIONS: "what is stored and what is recomputed: the checks test that fewer "
    "bytes exist than in full fine-tuning, but not that they are as few as possible",
    Kind.STORES_WEIGHTS: "how near the stored weights are: the checks test that there are fewer "
    "bytes of weights, and the error of the logits, but not that the codes are the best ones",
    Kind.DROPS_TOKENS: "which tokens are dropped: the checks test how many are dropped, but not "
    "that the remaining tokens are those that the method should rank first",
    Kind.ADDS_TOKENS: "the initial values and the positions of the added tokens: the checks test "
    "how many tokens are added and that they train",
    Kind.ESTIMATES_GRADIENT: "how noisy the estimate is: the checks test that it is right in the "
    "mean, and that the same seed gives the same estimate",
}


def unseen(kinds: frozenset[Kind]) -> list[str]:
    """Return what the method's own tests must cover, one line per kind of the method."""
    return [UNSEEN[kind] for kind in Kind if kind in kinds]
