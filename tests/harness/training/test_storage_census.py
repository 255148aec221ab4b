"""What the census of storages has, and what a walk leaves out."""

import sys
from types import ModuleType, SimpleNamespace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bsrbench.harness.training.kept_storages import (
    KeptStorages,
    census,
    storages,
    tensors_in,
    total_bytes,
    walk,
)


def test_a_walk_leads_into_no_library_s_globals_and_no_closed_type():
    held = SimpleNamespace(own=torch.zeros(1))

    assert tensors_in(walk(torch.nn.functional.linear, torch.optim.SGD, sys)) == []
    assert tensors_in(walk({"held": held}, closed=(SimpleNamespace,))) == []


def test_a_census_has_what_is_new_and_alive_wherever_it_is():
    """A generator that runs holds it, to which nothing leads; what a library makes is its own."""
    old = torch.zeros(1)

    def holds():
        held = torch.zeros(2)
        yield held.numel()

    with census() as kept:
        running, new = holds(), torch.zeros(3)
        next(running)
        cycle = [torch.zeros(4)]
        cycle.append(cycle)
        del cycle
        of_library = ModuleType("peft.made_up")
        vars(of_library)["__spec__"] = None
        of_library.DEFAULT, of_library.CACHE = torch.zeros(5), {"last": torch.zeros(6)}
        mine = [torch.zeros(7)]
        found = kept.find([], [new])

    assert total_bytes(found) == (2 + 7) * 4
    assert len(mine) == 1
    assert len(old) == 1


def test_what_a_step_left_behind_is_kept_until_it_dies():
    kept, left = KeptStorages(), torch.zeros(3)
    kept.left_behind(storages([left]).values())

    assert total_bytes(kept.find([], [])) == 3 * 4
    assert kept.find([], [left]) == {}
    del left
    assert kept.find([], []) == {}


def test_tensors_without_numbers_need_no_memory_but_among_such():
    """A compiler leaves them behind; of a step over shapes alone they are what there is."""
    meta = torch.zeros(3, device="meta")
    with census() as kept, FakeTensorMode():
        fake = torch.zeros(2)
        inside = total_bytes(kept.find([], [])), total_bytes(kept.find([meta], []))

    assert inside == (2 * 4, (2 + 3) * 4)
    assert KeptStorages().find([fake, meta], []) == {}
