"""Trainings with different seeds."""

MIB = 2**20
HEAD, FULL = [0.50, 0.50, 0.90, 0.90, 0.90, 0.90], [0.55, 0.56]


def trained(make, method, accuracies, **more):
    """Return a training for each of some seeds, or for seeds from 0 on."""
    of = accuracies if isinstance(accuracies, dict) else dict(enumerate(accuracies))
    return [make(method, seed=seed, accuracy_top1=a, **more) for seed, a in of.items()]


def failed(make, method, *lost):
    """Return trainings that diverged, made as others are and then robbed of their accuracy."""
    ended = [make(method, seed=seed, status="diverged", accuracy_top1=0.5) for seed in lost]
    for record in ended:
        del record.measurements["accuracy_top1"]
        record.missing["accuracy_top1"] = "diverged"
    return ended


def head_and_full(make):
    """Return profiles and trainings of the two rows of the first case."""
    profiles = [
        make(name, peak_counted_bytes=size * MIB) for name, size in (("head", 1), ("full", 2))
    ]
    return [*profiles, *trained(make, "head", HEAD), *trained(make, "full", FULL)]
