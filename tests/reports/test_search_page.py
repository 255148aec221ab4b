"""The page of a search where trainings did not complete: rows compare over every seed or not."""

import pytest

from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import Outcome, Status
from bsrbench.harness.spec.recipe import Recipe, Training
from bsrbench.harness.spec.search_result import SearchResult, SearchResultRow
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.reports.compare.search_rows import measured
from bsrbench.reports.documents import search_page
from tests.trial_records import altered

SEEDS = (0, 1, 2)
# The candidate needs half the memory and half the time; over all three seeds it reaches 0.4 less
# than the published 0.5, over the last two as much.
REACHED = {"bsr": (0.5, 0.5, 0.5), "mine": (0.2, 0.5, 0.5)}


def training(make, method, seed, accuracy):
    """Return a training read on the validation split; one without an accuracy diverged."""
    record = make(method, seed=seed, accuracy_top1=0.1)
    settings = Training(steps=4, learning_rate=1e-3, evaluate="validation")
    values = {} if accuracy is None else {"validation_accuracy_top1": accuracy}
    status = Status.DIVERGED if accuracy is None else Status.COMPLETED
    spec = record.spec.model_copy(update={"training": settings})
    return altered(
        record,
        key=f"{method}-{spec.trial_id()}-s-m",
        spec=spec,
        outcome=Outcome(status=status, reason="why" if accuracy is None else ""),
        measurements=values,
        missing=record.missing | {"accuracy_top1": "no", "validation_accuracy_top1": "no"},
    )


@pytest.fixture
def search(make, tmp_path):
    """Return a maker of searches of two rows, with a row's seed lost where one is named."""

    def made(lost=None):
        store = Store(tmp_path)
        store.open_for_writing()
        rows = []
        for place, (method, accuracies) in enumerate(REACHED.items(), start=1):
            seconds = [1.0 / place, 1.01 / place, 0.99 / place]
            profile = make(method, peak_counted_bytes=100 // place, step_seconds=seconds)
            store.save(profile)
            trained = [
                training(make, method, seed, None if (method, seed) == lost else accuracy)
                for seed, accuracy in zip(SEEDS, accuracies, strict=True)
            ]
            for record in trained:
                store.save(record)
            rows.append(
                SearchResultRow(
                    setting=0,
                    label=method,
                    method=method,
                    options={},
                    micro_batch=None,
                    predicted_bytes=1,
                    profile=profile.key,
                    trainings=tuple(record.key for record in trained),
                )
            )
        return SearchResult(
            method="bsr",
            workload=Workload(model="test_vit", batch=4),
            training=Recipe(steps=4, learning_rate=1e-3),
            memory_bytes=1000,
            seeds=SEEDS,
            settings=2,
            candidates=2,
            fitting=2,
            refused=0,
            tried=(),
            rows=tuple(rows),
        )

    return made


def page(found, folder):
    said = search_page.write(found, folder)
    return said, (folder / "search.md").read_text()


def test_with_every_seed_rows_are_compared(search, tmp_path):
    """0.4 is less than 0.5: on the front, for it is cheaper, but no better."""
    published, mine = measured(search(), tmp_path)

    assert (published.is_complete(), mine.is_complete()) == (True, True)
    assert (mine.on_front, mine.beats(published)) == (True, False)


def test_a_row_that_lost_its_worst_seed_beats_nothing(search, tmp_path):
    """Without seed 0 its mean is 0.5, as high as the published one over seeds 0 to 2."""
    found = search(lost=("mine", 0))
    published, mine = measured(found, tmp_path)
    said, text = page(found, tmp_path)

    assert (mine.accuracies, mine.lost) == ((0.5, 0.5), (0,))
    assert (mine.is_complete(), mine.on_front, mine.beats(published)) == (False, False, False)
    assert "2 rows measured in turns, and 1 of them trained with 3 seeds" in said[0]
    assert "A row with a training that did not complete is not compared" in text
    assert r"0.500 \[0.500, 0.500\] without seed 0 |" in text


def test_a_published_setting_that_lost_a_seed_is_compared_with_nothing(search, tmp_path):
    said, _ = page(search(lost=("bsr", 1)), tmp_path)

    assert said[1] == "No row is compared with bsr, whose training with seed 1 did not complete."
