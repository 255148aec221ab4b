"""What CI says of the packages it has looked up."""

import runpy
from pathlib import Path

import pytest

judge = runpy.run_path(str(Path(__file__).parents[1] / ".ci" / "audit.py"))["judge"]
SOUND = {"name": "sound", "version": "1", "vulns": []}
HOLED = {"name": "holed", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("found", "said", "failed"),
    [
        ([SOUND], ["1 of 1 packages audited"], False),
        ([SOUND, HOLED], ["holed 2: CVE-1, mended in 3", "2 of 2 packages audited"], True),
        (
            [SOUND, UNKNOWN],
            ["not in the list, so not audited: unknown", "1 of 2 packages audited"],
            False,
        ),
    ],
    ids=["sound", "holed", "one unknown"],
)
def test_a_known_hole_fails_and_what_was_not_looked_up_is_named(found, said, failed):
    assert judge(found) == (said, failed)


@pytest.mark.parametrize("found", [[], [UNKNOWN, UNKNOWN]], ids=["no connection", "no list"])
def test_an_audit_of_nothing_says_so_aloud(found):
    said, failed = judge(found)

    assert said == ["NOTHING was audited: the list of known vulnerabilities cannot be had here"]
    assert not failed
