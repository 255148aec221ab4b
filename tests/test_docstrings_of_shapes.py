"""STYLE.md wants shapes in the docstring of every public function that takes or returns tensors."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("harness", "methods", "reports")
# One dimension or more, each a word, a number, or arithmetic of both: [n], [1, tokens + 1].
DIMENSION = r"[a-z\d][\w +*/-]*"
SHAPE = re.compile(rf"\[{DIMENSION}(?:, (?:{DIMENSION}|\.\.\.))*\]")
NO_SHAPE = "any shape"


def is_public(node):
    return not node.name.startswith("_")


def functions(body):
    """Yield the public functions of a module, and the public methods of its public classes."""
    for node in body:
        if isinstance(node, ast.ClassDef) and is_public(node):
            yield from functions(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_public(node):
            yield node


def has_tensors(annotation):
    """Tell whether an annotation, which may stand in quotes, names a tensor."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if has_tensors(ast.parse(node.value, mode="eval")):
                return True
        elif isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name == "Tensor":
                return True
    return False


def annotations(function):
    """Return the annotations of a function's arguments, and of what it returns."""
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    found = [argument.annotation for argument in arguments if argument]
    return [annotation for annotation in [*found, function.returns] if annotation]


def states_a_shape(function):
    docstring = " ".join((ast.get_docstring(function) or "").split())
    return NO_SHAPE in docstring or SHAPE.search(docstring) is not None


def with_tensors(text):
    """Return the public functions of a module's text that take or return tensors."""
    found = functions(ast.parse(text).body)
    return [function for function in found if any(map(has_tensors, annotations(function)))]


def without_shapes(text):
    return [function.name for function in with_tensors(text) if not states_a_shape(function)]


def test_every_public_function_of_tensors_states_a_shape():
    texts = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
    }

    assert sum(len(with_tensors(text)) for text in texts.values()) > 100
    assert {path: names for path, text in texts.items() if (names := without_shapes(text))} == {}


@pytest.mark.parametrize(
    "signature",
    [
        "def f(x: Tensor) -> None",
        "def f(*, x: torch.Tensor) -> None",
        "def f(*xs: Tensor) -> None",
        "def f(x: int) -> tuple[Tensor, int]",
        "def f(x: Mapping[str, list[Tensor]]) -> None",
        "async def f(x: int) -> 'Tensor | None'",
        "def f(x: Callable[[Tensor], int]) -> None",
    ],
)
@pytest.mark.parametrize("indent", ["", "    "])
def test_a_function_of_tensors_without_a_shape_is_named(signature, indent):
    start = "class C:\n" if indent else ""
    text = (
        start + f'{indent}{signature}:\n{indent}    """Do it, see [PEP 8]. As tensors have it."""'
    )

    assert without_shapes(text) == ["f"]


@pytest.mark.parametrize(
    "words",
    [
        "Map [batch, tokens, dim] to [batch, tokens - 1, 3 dim].",
        "Count labels [n].",
        "Pack [batch, ...].",
        "Return [1, 1 + tokens, dim].",
        "Take x of any shape.",
        "Take x of any\n    shape.",
    ],
)
def test_a_function_that_states_a_shape_is_not(words):
    assert without_shapes(f'def f(x: Tensor) -> None:\n    """{words}"""') == []


@pytest.mark.parametrize(
    "text",
    [
        "def _f(x: Tensor): ...",
        "class _C:\n    def forward(self, x: Tensor): ...",
        "def f(x: TensorFile): ...",
        "def f(x: 'int'): ...",
    ],
)
def test_what_is_private_or_has_no_tensors_needs_none(text):
    assert without_shapes(text) == []
