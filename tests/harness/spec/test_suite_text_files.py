"""Text that people write is read as UTF-8, with a byte order mark or without, or refused."""

import codecs

import pytest

from bsrbench import methods
from bsrbench.harness.cli.settings import setting
from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import read_text
from bsrbench.harness.spec import suite_file
from bsrbench.harness.spec.recipe import LearningRateTry
from bsrbench.harness.spec.toml_text import DEEPEST, parse_toml

SUITE = """# für den Anfang
seeds = [0]
[workload]
model = "test_vit"
batch = 2
[training]
steps = 2
learning_rate = 0.1
[[methods]]
method = "full"
"""
METHOD = '''# für mich
from dataclasses import dataclass
from bsrbench.harness.method import Kind, Method


@dataclass(frozen=True)
class Mine(Method):
    """Mine."""

    source = "baseline"
    exact_forward = True
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        return model
'''
ENCODINGS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
READ = ("utf-8", "utf-8-sig")


def write(path, text, encoding):
    path.write_bytes(ENCODINGS.get(encoding, b"") + text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", READ)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_suite_is_read_with_a_mark_and_without(encoding, ending, tmp_path):
    path = write(tmp_path / "mine.toml", SUITE.replace("\n", ending), encoding)

    assert suite_file.read(path).methods[0].method == "full"


@pytest.mark.parametrize("encoding", READ)
def test_tuning_writes_into_a_suite_with_a_mark(encoding, tmp_path):
    path = write(tmp_path / "mine.toml", SUITE, encoding)
    suite_file.write_choices(path, suite_file.read(path), [[[LearningRateTry(learning_rate=0.2)]]])

    assert suite_file.read(path).methods[0].learning_rate == 0.2
    assert path.read_bytes().startswith("# für den Anfang".encode())


@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name not in READ])
def test_a_suite_in_another_encoding_is_refused_in_a_sentence(encoding, mark, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes((ENCODINGS[encoding] if mark else b"") + SUITE.encode(encoding))
    said = (
        f"is {encoding[:6].upper()} text, expected UTF-8" if mark else "contains zero bytes, as UTF"
    )

    with pytest.raises(BadInput, match=rf"mine\.toml {said}.*: save it as UTF-8"):
        suite_file.read(path)


def test_latin_letters_are_refused_in_a_sentence(tmp_path):
    path = write(tmp_path / "mine.toml", SUITE, "latin-1")

    with pytest.raises(BadInput, match=r"mine\.toml is not UTF-8 text \(byte 3 does not decode\)"):
        suite_file.read(path)


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(BadInput, match=r"cannot read .*: it is a folder, expected a regular file"):
        read_text(tmp_path)


@pytest.mark.parametrize("encoding", READ)
def test_a_method_s_file_is_read_with_a_mark_and_without(encoding, tmp_path):
    path = write(tmp_path / "mine.py", METHOD, encoding)

    assert type(methods.load(f"{path}:Mine")).__name__ == "Mine"


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name not in READ])
def test_a_method_s_file_in_another_encoding_is_refused_in_a_sentence(encoding, tmp_path):
    path = write(tmp_path / "mine.py", METHOD, encoding)

    with pytest.raises(BadInput, match=r"mine\.py.*save it as UTF-8") as caught:
        methods.load(f"{path}:Mine")
    assert "\n" not in str(caught.value)


# ---- TOML that nobody means -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = [" + "9" * 5000 + "]", "a number has more than 4300 digits"),
        ("a = " + "[" * 5000 + "]" * 5000, "nested more than 50 levels deep"),
        ("a = " + "{a = " * 300 + "1" + "}" * 300, "nested more than 50 levels deep"),
        ("a = " + "[" * DEEPEST + "]" * DEEPEST, "nested more than 50 levels deep"),
        ("a = [", "not valid TOML"),
    ],
)
def test_toml_that_nobody_means_is_refused_in_a_sentence(text, said, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=rf"mine\.toml: .*{said}"):
        suite_file.read(path)

    with pytest.raises(BadInput, match=r".{1,200} is not a TOML value") as caught:
        setting(text.replace(" = ", "=", 1))
    assert len(str(caught.value)) < 400


def test_toml_that_somebody_may_mean_is_read():
    inner = DEEPEST - 1

    assert parse_toml("a = " + "[" * inner + "]" * inner)
    assert parse_toml("a = " + "9" * 4000)["a"] > 0
