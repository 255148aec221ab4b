"""What is put in: a kind of input is valid samples, a way to change them, and who reads them."""

import functools
import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch
from safetensors.torch import save as safetensors
from torch import nn

from bsrbench.harness.errors import BadInput
from bsrbench.harness.search import candidate_costs, search_effort
from bsrbench.harness.spec import suite_file
from bsrbench.harness.spec.frozen_data import digest
from bsrbench.harness.training.resume import Checkpoint, Progress, UnusableError
from tests.fuzz import commands, mutate
from tests.fuzz.image_inputs import (
    images,
    kept_images,
    packs_,
    read_image,
    read_kept_images,
    read_pack,
)
from tests.fuzz.input_files import LATE, write_input
from tests.fuzz.results_inputs import (
    details,
    progress,
    read_detail,
    read_progress,
    read_records,
    read_staged,
    records,
    report,
    staged,
)
from tests.fuzz.weights_inputs import jax, pickled, read_weights, small_vit, some_checkpoint


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        name: of it.
        ending: of its file.
        samples: makes valid ones.
        change: of a draw, a sample and all samples, makes an input.
        use: reads an input, given as bytes, in a place.
        share: of all inputs, in parts.
        in_tests: how many of them tests read; slow ones are fewer.
    """

    name: str
    ending: str
    samples: Callable
    change: Callable
    use: Callable
    share: int = 10
    in_tests: int = 1000

    def input(self, seed):
        """Return the bytes that a seed gives; the same for ever."""
        draw = random.Random(f"{self.name} {seed}")  # noqa: S311 - to be had again, not secret
        samples = self.made()
        return self.change(draw, draw.choice(samples), samples)

    @functools.cache  # noqa: B019 - kinds are few, and stay
    def made(self):
        """Return the samples, made once."""
        return tuple(self.samples())


# Suites


def suites():
    """Return the suites that are shipped, and a small one."""
    return [path.read_bytes() for path in sorted(suite_file.SHIPPED.glob("*.toml"))]


def read_suite(content, place):
    suite_file.read(write_input(place, "any.toml", content)).trials()


# Trainings that were cut off, and searches


def _training():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, (optimizer,)


def checkpoints():
    """Return what a training keeps."""
    with io.BytesIO() as kept:
        model, optimizers = _training()
        state = {"model": model.state_dict(), "optimizers": [optimizers[0].state_dict()]}
        state |= {"generator": torch.get_rng_state(), "generators": []}
        progress = Progress(3, 0.5, 0.1, [1.0, 0.5, 0.2], [1, 2], [0.1, 0.2], [0.5, 0.6])
        torch.save(state | {"progress": vars(progress)}, kept)
        return [kept.getvalue()]


def read_checkpoint(content, place):
    path = write_input(place, ".staged/full-0123.checkpoint.pt", content)
    state = torch.get_rng_state()
    try:
        Checkpoint(path).restore(*_training(), 9)
    except UnusableError as error:
        raise BadInput(str(error)) from error
    finally:
        torch.set_rng_state(state)


def searches():
    """Return predictions and decisions that searches keep."""
    cost = {"peak_bytes": 5, "step_flop": 7, "trained_parameters": 3, "reason": ""}
    kept = {f"{number:016x}-a-b-c": cost for number in range(20)}
    return [json.dumps(kept).encode(), json.dumps({"question": digest({}), "first": 7}).encode()]


def read_search(content, place):
    path = write_input(place, "costs.json", content)
    candidate_costs._read(path)
    search_effort.remembered(path, {}, lambda: 4)


# Weights


def _weights(name, ending, samples, change):
    read = functools.partial(read_weights, ending)
    return Kind(name, ending, samples, change, read, 10, 400)


# Commands


def words():
    """Return command lines."""
    return [json.dumps(line).encode() for line in commands.LINES]


def call(content, place):
    """Call a command on a copy of a few records."""
    folder = place.cleared() / "late" / "records"
    folder.mkdir(parents=True)
    for path in sorted((LATE / "records").glob("*.json"))[::20]:
        shutil.copy(path, folder)
    commands.called(json.loads(content))


KINDS = (
    Kind("suites", "toml", suites, mutate.some_toml, read_suite),
    Kind("records", "json", records, mutate.some_json, read_records, 10, 500),
    Kind("reports", "json", records, mutate.some_json, report, 5, 60),
    Kind("sidecars", "json", details, mutate.some_json, read_detail, 5, 100),
    Kind("staged", "json", staged, mutate.some_json, read_staged),
    Kind("progress", "json", progress, mutate.some_json, read_progress),
    Kind("checkpoints", "pt", checkpoints, some_checkpoint, read_checkpoint),
    Kind("searches", "json", searches, mutate.some_json, read_search),
    Kind("arguments", "json", words, commands.some_words, call, 4, 60),
    Kind("images", "png", images, mutate.some_png, read_image),
    Kind("kept-images", "json", kept_images, mutate.some_json, read_kept_images, 4),
    Kind("packs", "npz", packs_, mutate.some_zip, read_pack),
    _weights("weights-pt", "pt", pickled, some_checkpoint),
    _weights(
        "weights-safetensors",
        "safetensors",
        lambda: [safetensors(small_vit().state_dict())],
        mutate.some_safetensors,
    ),
    _weights("weights-npz", "npz", jax, mutate.some_zip),
)
