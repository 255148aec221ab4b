"""Images that are decoded once and kept, within a bound."""

import os
import resource
import threading
from collections import Counter

import pytest
import torch

from bsrbench.harness.devices.cpu import Cpu
from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.workload.data.splits import ImageData, InMemory
from bsrbench.harness.workload.images import kept_images
from bsrbench.harness.workload.images.batches import TrainingBatches
from bsrbench.harness.workload.images.image_order import ImageOrder
from bsrbench.harness.workload.images.kept_images import (
    Room,
    keep,
    kept_for_training,
    room_for_images,
)
from bsrbench.harness.workload.images.prefetch import by_threads, in_order
from bsrbench.harness.workload.images.preprocess import Preprocess

BYTES = 3 * 8 * 8  # of one image
COUNT = 10


class Decoding:
    """A split of images that counts how often each is decoded; some of them are damaged."""

    decodes = True

    def __init__(self, damaged=()):
        self.labels = torch.arange(COUNT)
        self.times, self.damaged = Counter(), damaged
        self._lock = threading.Lock()

    def image(self, index):
        """Return an image whose pixels are all its index: uint8 [3, 8, 8]."""
        with self._lock:
            self.times[index] += 1
        if index in self.damaged:
            raise BadInput(f"image {index}.jpg cannot be decoded as an image (truncated)")
        return torch.full((3, 8, 8), index, dtype=torch.uint8)


def preprocess(side=8, **settings):
    training = Training(steps=1, learning_rate=1e-3, **settings)
    return Preprocess(side, (0.5,) * 3, (0.5,) * 3, training)


def test_each_image_is_decoded_once_and_the_room_shrinks():
    split, room = Decoding(), Room(10 * BYTES)
    kept = keep(split, [3, 1, 2], room)
    images = [int(kept.image(index)[0, 0, 0]) for index in (1, 2, 3, 3, 7, 7)]

    assert images == [1, 2, 3, 3, 7, 7]
    assert split.times == {1: 1, 2: 1, 3: 1, 7: 2}
    assert room.left_bytes == 7 * BYTES
    assert not kept.decodes
    assert kept.remark() == ""


@pytest.mark.parametrize("spare", [0, BYTES - 1])
def test_images_are_kept_as_far_as_there_is_room_and_the_rest_is_decoded(spare):
    split, room = Decoding(), Room(4 * BYTES + spare)
    kept = keep(split, range(COUNT), room)
    split.times.clear()
    images = [int(kept.image(index)[0, 0, 0]) for index in range(COUNT)]

    assert images == list(range(COUNT))
    assert split.times == dict.fromkeys(range(4, COUNT), 1)
    assert room.left_bytes == spare
    assert kept.decodes
    assert kept.remark().startswith("4 of 10 training images fit into the memory")


def test_images_in_memory_take_no_room():
    split, room = InMemory(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4)), Room(0)
    kept = keep(split, range(4), room)

    assert torch.equal(kept.image(2), split.images[2])
    assert kept.remark() == ""


def test_only_images_that_the_training_reads_are_decoded():
    """Six positions of ten images; the validation split is kept if it is read for a curve."""
    data = ImageData(Decoding(), Decoding(), Decoding(), notes=("a note",))
    kept = kept_for_training(data, range(6), 3, Room(10**6), reads_curve=True)
    order = [ImageOrder(COUNT, 3)[position] for position in range(6)]

    assert data.train.times == dict.fromkeys(order, 1)
    assert list(kept.train.kept) == order
    assert data.validation.times == dict.fromkeys(range(COUNT), 1)
    assert kept.test is data.test
    assert kept.notes == ("a note",)


def test_a_later_start_and_a_second_epoch_need_no_other_images():
    assert sorted(ImageOrder(COUNT, 0).images(range(25))) == list(range(COUNT))
    assert ImageOrder(COUNT, 0).images(range(3)) == [ImageOrder(COUNT, 0)[i] for i in range(3)]


def test_a_note_says_that_not_all_images_fit():
    data = ImageData(Decoding(), Decoding(), Decoding())
    kept = kept_for_training(data, range(20), 0, Room(3 * BYTES), reads_curve=False)

    assert [note.split(" fit ")[0] for note in kept.notes] == ["3 of 10 training images"]
    assert not data.validation.times


def test_the_first_image_that_does_not_decode_is_named():
    with pytest.raises(BadInput, match=r"^image 5.jpg cannot be decoded as an image"):
        keep(Decoding(damaged=(5, 8)), range(COUNT), Room(10**6))


def test_an_image_without_room_that_does_not_decode_is_named_when_it_is_read():
    kept = keep(Decoding(damaged=(5,)), range(COUNT), Room(3 * BYTES))

    with pytest.raises(BadInput, match=r"^image 5.jpg cannot be decoded as an image"):
        list(by_threads(TrainingBatches(kept, preprocess(), 0, 5), range(2), 1, _stays))


def _stays(batch):
    return lambda: batch


def test_an_image_that_does_not_decode_ends_the_threads_that_prepare():
    before = threading.active_count()
    split = Decoding(damaged=range(COUNT))
    batches = by_threads(TrainingBatches(split, preprocess(), 0, 2), range(5), 3, _stays)
    with pytest.raises(BadInput, match="cannot be decoded"):
        list(batches)

    assert threading.active_count() == before


def test_threads_end_with_the_training():
    before = threading.active_count()
    batches = by_threads(TrainingBatches(Decoding(), preprocess(), 0, 2), range(50), 3, _stays)
    next(batches)
    batches.close()

    assert threading.active_count() == before


def test_threads_are_only_so_many_batches_ahead():
    """Of 50 batches of 2, the first was taken; 3 threads, and 2 batches more than threads."""
    split = Decoding()
    batches = by_threads(TrainingBatches(split, preprocess(), 0, 2), range(50), 3, _stays)
    next(batches)
    batches.close()

    assert split.times.total() <= 2 * (3 + 2)


def test_prepared_images_are_kept_where_every_epoch_has_the_same():
    split, way = Decoding(), preprocess()
    again = TrainingBatches(split, way, 0, 5, Room(10 * 3 * 8 * 8))
    plain = TrainingBatches(Decoding(), way, 0, 5)

    for step in range(6):
        assert torch.equal(again[step][0], plain[step][0])
    assert split.times == dict.fromkeys(range(COUNT), 1)


@pytest.mark.parametrize(
    ("room", "augmentation"), [(Room(10 * 3 * 8 * 8 - 1), "none"), (Room(10**6), "crop")]
)
def test_prepared_images_are_not_kept_without_room_or_where_crops_differ(room, augmentation):
    split, left = Decoding(), room.left_bytes
    batches = TrainingBatches(split, preprocess(augmentation=augmentation), 0, 5, room)
    for step in range(6):
        batches[step]

    assert split.times == dict.fromkeys(range(COUNT), 3)
    assert room.left_bytes == left


def test_the_room_is_a_quarter_of_free_memory_by_the_share_of_cores(monkeypatch):
    """Of 800 bytes, on 2 of 8 cores: 800 / 4 * 2 / 8 = 50; under a limit of 400 bytes, half."""
    monkeypatch.setattr(Cpu, "free_bytes", lambda _: 800)
    monkeypatch.setattr(kept_images, "cores_at_hand", lambda: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    of_free = room_for_images()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (400, 400))
    of_limit = room_for_images()
    monkeypatch.setattr(Cpu, "free_bytes", lambda _: None)

    assert of_free == Room(50)
    assert of_limit == Room(25)
    assert room_for_images() == Room(0)


def test_what_comes_from_a_gpu_or_a_cpu_is_the_same(monkeypatch):
    """Other accelerators than CUDA have threads too, and leave the copy to the step."""
    batches = TrainingBatches(Decoding(), preprocess(augmentation="crop-flip"), 4, 3)
    here = list(in_order(batches, range(7), torch.device("cpu"), 0))
    by_mps = list(in_order(batches, range(7), torch.device("mps"), 2))

    for (images, labels), (others, other_labels) in zip(here, by_mps, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)


@pytest.mark.cuda
def test_batches_arrive_on_a_gpu_with_the_same_bits():
    batches = TrainingBatches(Decoding(), preprocess(augmentation="crop-flip"), 4, 3)
    here = list(in_order(batches, range(20), torch.device("cpu"), 0))
    there = list(in_order(batches, range(20), torch.device("cuda", 0), 3))

    assert {part.device.type for batch in there for part in batch} == {"cuda"}
    for (images, labels), (others, other_labels) in zip(here, there, strict=True):
        assert torch.equal(images, others.cpu())
        assert torch.equal(labels, other_labels.cpu())
