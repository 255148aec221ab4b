"""What is put in: a kind of input is valid samples, a way to change them, and who reads them."""

import functools
import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save as safetensors
from torch import nn

from bsrbench.harness.cli.status import _status
from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.store import Store, gather
from bsrbench.harness.search import candidate_costs, search_effort
from bsrbench.harness.spec import suite_file
from bsrbench.harness.spec.frozen_data import digest
from bsrbench.harness.training.resume import Checkpoint, Progress, UnusableError
from bsrbench.harness.workload import weights
from bsrbench.harness.workload.data import decodable, packs, pixels
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.documents import csv_table, latex_tables
from tests.fuzz import commands, mutate
from tests.harness.workload.test_own_weights import write_jax

ROOT = Path(__file__).resolve().parents[2]
LATE = ROOT / "results" / "late"
FOLDERS = (LATE, ROOT / "results" / "cifar-small")
MOST_SAMPLES = 12
MOST_BYTES = 30_000


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


def _written(place, name, content):
    path = place.cleared() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _some(paths):
    """Return the content of a few files, small ones, since inputs are many."""
    found = sorted(path for path in paths if path.stat().st_size < MOST_BYTES)
    return [path.read_bytes() for path in found[:: max(1, len(found) // MOST_SAMPLES)]]


# Suites


def suites():
    """Return the suites that are shipped, and a small one."""
    return [path.read_bytes() for path in sorted(suite_file.SHIPPED.glob("*.toml"))]


def read_suite(content, place):
    suite_file.read(_written(place, "any.toml", content)).trials()


# What lies in a folder of results


def records():
    """Return records of several schemas."""
    paths = [path for folder in FOLDERS for path in (folder / "records").glob("*.json")]
    return _some(paths) + _some((ROOT / "tests" / "golden").glob("*.json"))


def read_records(content, place):
    """Read a folder with a record, and the record where the folder's reader sets it aside."""
    path = _written(place, "records/any.json", content)
    if not gather([place.target]).records:
        read_record(path)


def report(content, place):
    """Compare a record, and write two of the tables."""
    read_records(content, place)
    found = gather([place.target])
    comparisons = compare(found.records, found.detail)
    csv_table.write(comparisons, place.target / "comparison.csv")
    latex_tables.write(comparisons, "t", place.target / "report.tex")
    _status(Store(place.target))


@functools.cache
def _with_detail():
    for folder in FOLDERS:
        for path in sorted((folder / "details").glob("*.json")):
            record = folder / "records" / path.name
            if record.exists():
                return record.read_bytes(), json.loads(record.read_bytes())["key"]
    raise LookupError


def details():
    """Return sidecars of records."""
    return _some(path for folder in FOLDERS for path in (folder / "details").glob("*.json"))


def read_detail(content, place):
    record, key = _with_detail()
    _written(place, f"details/{key}.json", content)
    (place.target / "records").mkdir()
    (place.target / "records" / "a.json").write_bytes(record)
    found = gather([place.target])
    comparisons = compare(found.records, found.detail)
    csv_table.write(comparisons, place.target / "comparison.csv")


def staged():
    """Return results of passes."""
    made = {
        "status": "completed",
        "reason": "",
        "reading": {"measurements": {"a": 1}, "detail": {}},
    }
    return [json.dumps(made).encode(), *details()]


def read_staged(content, place):
    _written(place, ".staged/full-0123.train.json", content)
    store = Store(place.target)
    for key in store.staged_keys("train"):
        store.staged(key, "train")


def progress():
    """Return what a run says of itself."""
    known = {"pid": 1, "host": "h", "at": 1.5, "trials": 9, "completed": 3, "failed": 0}
    known |= {"what": "full", "left_seconds": 3.5}
    states = ("running", "finished", "stopped", "planned")
    return [json.dumps(known | {"state": state}).encode() for state in states]


def read_progress(content, place):
    _written(place, ".staged/progress.run", content)
    (place.target / "records").mkdir()
    commands.called(["status", str(place.target)])


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
        said = Progress(3, 0.5, [1.0, 0.5, 0.2], [1, 2], [0.1, 0.2], [0.5, 0.6])
        torch.save(state | {"progress": vars(said)}, kept)
        return [kept.getvalue()]


def read_checkpoint(content, place):
    path = _written(place, ".staged/full-0123.checkpoint.pt", content)
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
    path = _written(place, "costs.json", content)
    candidate_costs._read(path)
    search_effort.remembered(path, {}, lambda: 4)


# Images, packs and weights


def _image(form, mode, **how):
    side = 24
    numbers = np.arange(side * side * 4, dtype=np.uint32).reshape(side, side, 4) * 7 % 256
    image = Image.fromarray(numbers.astype(np.uint8), "RGBA").convert(mode)
    with io.BytesIO() as written:
        image.save(written, form, **how)
        return written.getvalue()


def images():
    """Return an image of every format, in several modes and ways to pack it."""
    found = [_image("PNG", mode) for mode in ("L", "P", "RGB", "RGBA", "1", "LA")]
    found += [_image("JPEG", "RGB"), _image("JPEG", "L", progressive=True), _image("JPEG", "CMYK")]
    packings = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    found += [_image("TIFF", "RGB", compression=packing) for packing in packings]
    found += [_image("WEBP", "RGBA", lossless=True), _image("WEBP", "RGB"), _image("BMP", "RGB")]
    frame = Image.new("P", (24, 24), 3)
    found += [_image("GIF", "P"), _image("GIF", "P", save_all=True, append_images=[frame])]
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 50
    found += [_image(form, "RGB", exif=exif) for form in ("JPEG", "PNG", "WEBP", "TIFF")]
    return [*found, _image("PPM", "RGB"), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]


def read_image(content, place):
    pixels.read(_written(place, "any.png", content))


def kept_images():
    """Return what is kept of a folder's images."""
    kept = [{}, {"broken": True}, {"pixels": "ab" * 12}, {"unknown": "mode 'F'"}]
    kept += [
        {"pixels": "cd" * 12, "treatments": ["are CMYK and became RGB without a colour profile"]}
    ]
    return [json.dumps(kept).encode()]


def read_kept_images(content, place):
    if not decodable._kept(_written(place, "images.json", content)):
        raise BadInput("nothing is kept, so they are decoded again")


def packs_():
    """Return packs."""
    rows = np.arange(8 * 4 * 4 * 3, dtype=np.uint8).reshape(8, 4, 4, 3)
    labels = np.arange(8) % 2
    named = {"x_train": rows, "y_train": labels, "x_test": rows[:4], "y_test": labels[:4]}
    found = []
    for save in (np.savez, np.savez_compressed):
        with io.BytesIO() as written:
            save(written, **named, classes=np.array(["cat", "dog"]))
            found.append(written.getvalue())
    return found


def read_pack(content, place):
    packs.load(_written(place, "any.npz", content))


def _made():
    torch.manual_seed(0)
    return timm.create_model("test_vit", depth=1, embed_dim=16, num_heads=2, num_classes=3)


_filled = functools.cache(_made)  # by one input after the other, with whatever they hold


def _saved(**how):
    with io.BytesIO() as written:
        torch.save(_made().state_dict(), written, **how)
        return written.getvalue()


def pickled():
    """Return checkpoints of both of torch's formats."""
    return [_saved(), _saved(), _saved(_use_new_zipfile_serialization=False)]


def some_checkpoint(draw, content, others=()):
    """Return a checkpoint with a part changed, of the format that is an archive."""
    change = mutate.some_zip if content.startswith(b"PK") else mutate.some_bytes
    return change(draw, content, others)


def jax():
    """Return weights as JAX's models are published."""
    with io.BytesIO() as written:
        write_jax(_made(), written)
        return [written.getvalue()]


def _read_weights(ending, content, place):
    _written(place, f"any.{ending}", content)
    weights.load_into(_filled(), f"file:any.{ending}")


def _weights(name, ending, samples, change):
    read = functools.partial(_read_weights, ending)
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
        lambda: [safetensors(_made().state_dict())],
        mutate.some_safetensors,
    ),
    _weights("weights-npz", "npz", jax, mutate.some_zip),
)
