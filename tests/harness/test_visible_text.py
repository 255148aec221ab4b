"""No character of a stranger's text acts: on a terminal, in a message, in a file."""

import os
import unicodedata

import orjson
import pytest
from rich.console import Console

from bsrbench.harness.launch.progress import TerminalProgress
from bsrbench.harness.launch.run_tally import Tally
from bsrbench.harness.visible_text import acting, visible, visible_in, visible_json

ESC = "\x1b]0;PWNED\x07"


def test_characters_that_act_are_shown_as_their_codes():
    assert visible(f"a{ESC}b\r\u202ec\ud800\x9b") == r"a\x1b]0;PWNED\x07b\x0d\u202ec\ud800\x9b"
    assert (
        visible("tab\tand\nline, مرحبا 名前 👩\u200d🔬") == "tab\tand\nline, مرحبا 名前 👩\u200d🔬"
    )
    assert acting("a\u2066b") == r"\u2066"
    assert acting("plain\n") == ""


def test_every_control_and_direction_character_acts():
    of_direction = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    for number in range(0x110000):
        character = chr(number)
        acts = character not in "\t\n" and (
            unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
            or unicodedata.bidirectional(character) in of_direction
            or character in "\u061c\u200e\u200f\ufeff\ufffe\uffff"
        )
        assert (visible(character) != character) == acts, hex(number)


def test_data_are_made_visible_to_their_depths():
    assert visible_in({"\x1b": ["\x07", {"a": ("\u202e", 1, None)}]}) == {
        r"\x1b": [r"\x07", {"a": [r"\u202e", 1, None]}]
    }


@pytest.mark.parametrize(
    "arguments",
    [
        [f"report{ESC}"],
        [f"--{ESC}"],
        ["run", f"--{ESC}"],
        ["run", f"{ESC}.toml"],
        ["run", "quick", "--set", f"{ESC}=1"],
        ["report", ESC],
        ["compare", ESC, "bsr", "--results", ESC],
        ["results", "check", ESC],
        ["results", "merge", ESC, ESC],
        ["status", ESC],
        ["check", ESC],
        ["check", f"{ESC}.py:{ESC}"],
        ["new-method", ESC],
        ["list", ESC],
        ["profile", "--model", "test_vit", "--batch", "4", "--method", ESC],
        ["profile", "--batch", ESC],
        ["export", "--csv", ESC, ESC],
    ],
    ids=lambda arguments: " ".join(arguments).replace(ESC, "ESC"),
)
def test_no_argument_acts_on_the_terminal(typed, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = typed(*arguments)

    assert code == 2
    assert "PWNED" in said
    assert "\x1b" not in said
    assert "\x07" not in said


def test_a_name_of_half_a_character_is_shown(typed):
    code, said = typed("report", os.fsdecode(b"\xff\xfe"))

    assert code == 2
    assert r"\udcff\udcfe" in said


def test_what_a_run_says_does_not_act(capsys):
    console = Console(stderr=True, force_terminal=True, color_system=None)
    with TerminalProgress(console) as progress:
        progress.say(f"said {ESC}")
        progress.show(Tally(trials=1, what=f"[red] {ESC}"))
    written = capsys.readouterr().err

    assert r"said \x1b]0;PWNED\x07" in written
    assert r"[red] \x1b]0;PWNED\x07" in written
    assert ESC not in written


def test_json_is_made_visible_as_its_data_are():
    data = {"a\x1b": [f"{ESC}\\u001b\\\\ \b\f\r\n\t\u202e\x7f\x9b", 1.5, None]}

    assert orjson.loads(visible_json(orjson.dumps(data).decode())) == visible_in(data)
