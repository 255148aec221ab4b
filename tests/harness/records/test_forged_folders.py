"""Results folders from strangers: what is bad is named with its reason, and the rest goes on."""

import json
import os
from dataclasses import replace

import pytest

from bsrbench.harness.plain_data import DEEPEST, LARGEST
from bsrbench.harness.records.record_content import text_of
from bsrbench.harness.records.record_key import read_key
from bsrbench.harness.records.results_maintenance import examine, repair
from bsrbench.harness.records.results_merge import merge
from bsrbench.harness.records.sidecar import NO_SIDECAR
from bsrbench.harness.records.store import gather
from bsrbench.harness.records.trial_record import plain_record
from bsrbench.harness.spec.trial_spec import TrialSpec
from tests.harness.records.golden_records import PROFILE, PROFILE_NAME, TRAINING

DEEP = "[" * 100_000


def stored(data, *, own_key=True):
    """Return the text of a record that says so, with the right hash and, mostly, the right key."""
    if own_key:
        spec = TrialSpec.model_validate_json(json.dumps(data["spec"]))
        data["key"] = str(replace(read_key(data["key"]), trial=spec.trial_id()))
    return text_of(data)


def changed(place, value, source=PROFILE, *, own_key=False):
    """Return the text of a record in which one value is another."""
    data = json.loads(source.read_text())
    *above, last = place.split(".")
    inner = data
    for name in above:
        inner = inner[name]
    inner[last] = value
    return stored(data, own_key=own_key)


def curve(**readings):
    data = json.loads(TRAINING.read_text())
    data["measurements"] |= readings
    return text_of(data)


def nested(depth):
    found = {}
    for _ in range(depth):
        found = {"a": found}
    return found


# Content of a file in records/, and a part of the reason why it is set aside.
BAD = {
    "slash": (changed("key", "../x"), "its key '../x' is not valid"),
    "absolute": (changed("key", "/srv/x"), "its key '/srv/x' is not valid"),
    "up": (changed("key", "../../../pwned/evil"), "is not valid"),
    "empty": (changed("key", ""), "its key '' is not valid"),
    "long": (changed("key", "a" * 300), "is not valid"),
    "nul": (changed("key", "a\0b"), r"its key 'a\x00b' is not valid"),
    "glob": (changed("key", "[a-z]*"), "is not valid"),
    "spec": (changed("spec.workload.batch", 7), "its key does not match its spec"),
    "method": (changed("spec.method", "a\x1b[31mb"), r"contains the character \x1b"),
    "model": (changed("spec.workload.model", "vit\u202e"), r"contains the character \u202e"),
    "option": (changed("spec.options", {"a\x07": 1}), r"options contain the character \x07"),
    "integer": (
        changed("measurements.peak_counted_bytes", 10**25),
        "expected a number below 2**63",
    ),
    "float": (changed("measurements.peak_counted_bytes", 1e308), "expected a number below 2**63"),
    "sample": (changed("measurements.step_seconds", [0.1, 1e300]), "expected a number below 2**63"),
    "negative": (
        changed("measurements.step_seconds", [0.1, -1]),
        "expected a number of at least 0",
    ),
    "none": (changed("measurements.step_seconds", []), "has no samples"),
    "share": (
        changed("measurements.accuracy_top1", 2.0, TRAINING),
        "a number of at least 0 and at most 1",
    ),
    "seed": (changed("spec.seed", LARGEST), "spec.seed"),
    "clock": (
        changed("circumstances.passes_seconds", 1e308),
        "circumstances.passes_seconds is 1e+308",
    ),
    "curve": (
        curve(curve_steps=[1, 2, 3], curve_accuracies=[0.1], curve_seconds=[0.1, 9]),
        "curve_steps 3, curve_seconds 2, curve_accuracies 1",
    ),
    "deep": (
        changed("circumstances.command", nested(DEEPEST + 1)),
        f"{DEEPEST} levels deep",
    ),
    "endless": (DEEP, "not a readable record"),
    "surrogate": ('{"key": "\\ud800"}', "not a readable record"),
    "list": ("[]", "expected a JSON object"),
    "unknown": (changed("environment.mood", "good"), "unknown field `mood`"),
    "version": ('{"schema_version": [7]}', "schema version [7]"),
}


def in_place_of(kind, path, elsewhere):
    """Put something at a path that is no regular file, or far too large a one."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(500 * 2**20)
    else:
        path.symlink_to({"device": "/dev/zero", "loop": path, "nowhere": elsewhere}[kind])


KINDS = {
    "pipe": "a pipe, expected a regular file",
    "folder": "a folder, expected a regular file",
    "large": "bytes, more than",
    "device": "a device, expected a regular file",
    "loop": "Too many levels of symbolic links",
    "nowhere": "No such file or directory",
}


@pytest.fixture
def forged(folder, outside):
    """Return the folder with every kind of bad record in it."""
    for name, (text, _) in BAD.items():
        (folder / "records" / f"bad-{name}.json").write_text(text)
    for kind in KINDS:
        in_place_of(kind, folder / "records" / f"odd-{kind}.json", outside / "new")
    return folder


def reason_of(name, reasons):
    (reason,) = (reason for reason in reasons if f"/{name}.json: " in reason)
    return reason


def test_each_bad_record_is_set_aside_with_its_reason_and_the_others_are_read(forged):
    pool = gather([forged])

    assert len(pool.records) == 2
    assert len(pool.aside) == len(BAD) + len(KINDS)
    for name, (_, said) in BAD.items():
        assert said in reason_of(f"bad-{name}", pool.aside)
    for kind, said in KINDS.items():
        assert said in reason_of(f"odd-{kind}", pool.aside)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("report", "FOLDER"), 0),
        (("compare", "FOLDER", "FOLDER", "--results", "FOLDER"), 0),
        (("export", "FOLDER", "--csv", "OUT"), 0),
        (("claims", "FOLDER"), 0),
        (("status", "FOLDER"), 0),
        (("results", "check", "FOLDER"), 1),
        (("results", "merge", "OUT", "FOLDER"), 1),
        (("results", "repair", "FOLDER"), 0),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else None,
)
def test_no_command_ends_for_a_bad_record(words, code, forged, tmp_path, typed):
    places = {"FOLDER": forged, "OUT": tmp_path / "out"}
    found, said = typed(*(places.get(word, word) for word in words))

    assert found == code
    assert not any(character in said for character in "\x1b\x07\u202e\0")
    assert "bad-slash" in said


def test_what_was_repaired_is_as_it_should_be_and_holds_what_was_good(forged):
    good = {record.key for record in gather([forged]).records}
    repair(forged)

    assert examine(forged) == []
    assert {record.key for record in gather([forged]).records} == good
    assert len(list((forged / "aside").iterdir())) == len(BAD) + len(KINDS)


# What a record may say, however strange it is.
ALLOWED = [
    ("spec.workload.model", "vit $\\x$ _^{"),
    ("spec.method", "a" * 4000),
    ("spec.method", "\U00020000" * 60),
    ("spec.options", {"<b>": ["$x$", 1e18, None, True]}),
    ("notes", [{"kind": "other", "text": text} for text in ("\x1b]0;PWNED\x07", "a\u202eb")]),
    ("outcome.reason", "\ud83d\ude00\x9b31m"),
    ("environment.method", {"\x1b[31m": {"\u2028": "\r"}}),
    ("missing.accuracy_top1", {"kind": "other", "text": "\x00\x1b"}),
    ("finished_at", "0001-01-01T00:00:00+14:00"),
    ("began_at", "\x1b[31m"),
    ("measurements.step_seconds", [0.0, 0.0, 5e-324, 0.0]),
    ("measurements.step_seconds", [9e18, 9e18, 9e18, 9e18]),
    ("measurements.peak_counted_bytes", 2**63 - 1),
    ("measurements.estimate_error", 5e-324),
]


def test_what_a_record_may_say_is_reported_and_acts_on_nothing(folder, typed):
    for seed, (place, value) in enumerate(ALLOWED):
        data = json.loads(changed(place, value))
        data["spec"]["seed"] = seed + 1
        (folder / "records" / f"{seed}.json").write_text(stored(data))
    code, said = typed("report", folder)
    pool = gather([folder])
    everything = said + "".join(json.dumps(plain_record(record)) for record in pool.records)

    assert code == 0
    assert typed("status", folder)[0] == 0
    assert len(pool.records) == len(ALLOWED) + 2
    assert not set("\x00\x07\x1b\x9b\r\u2028\u202e") & set(everything)
    assert "\\u001b" not in everything


SIDECARS = {
    "number": "5",
    "deep": DEEP,
    "list": "[]",
    "counted": '{"counted": 7}',
    "modules": '{"counted": {"modules_at_peak": {"blocks.0": [1]}}}',
    "blocks": '{"counted": {"held_by_module": {"blocks.9999999999": 1}}}',
    "place": '{"counted": {"peak_place": {"phase": 7}}}',
    "timeline": '{"counted": {"timeline": {"index": [1]}}}',
    "allocated": '{"allocated": {"unexplained_bytes": "many"}}',
    "flops": '{"flops": {"by_operator": [1]}}',
    "surrogate": '{"losses": "\\ud800"}',
}


@pytest.mark.parametrize("kind", [*SIDECARS, *KINDS])
def test_a_bad_sidecar_is_as_good_as_none_and_is_named(kind, folder, outside, typed):
    path = folder / "details" / PROFILE_NAME
    path.unlink()
    if kind in SIDECARS:
        path.write_text(SIDECARS[kind])
    else:
        in_place_of(kind, path, outside / "new")
    pool = gather([folder])

    assert pool.detail(path.stem) == NO_SIDECAR
    assert f"{path}: " in pool.doubts[0]
    assert [trouble.path for trouble in examine(folder)] == [path]
    done = merge(folder.parent / "into", [folder])
    assert len(done.copied) == 2
    assert str(path) in done.unreadable[0]


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_the_place_of_progress_is_named(kind, folder, outside, typed):
    in_place_of(kind, folder / ".staged" / "progress.run", outside / "new")
    code, said = typed("status", folder)

    assert code == 0
    assert KINDS[kind] in said
