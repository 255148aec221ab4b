"""Names that another package keeps to itself are used in four modules only, which tests hold to."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("harness", "methods", "reports")
ROOMS = {
    "harness/launch/processes/multiprocessing_internals.py",
    "harness/torch_internals/compiler_internals.py",
    "harness/torch_internals/eager_internals.py",
    "harness/torch_internals/vision_internals.py",
}
OWN = {"self", "cls"}
DOCUMENTED = {"os._exit"}  # public in spite of its name
BY_TEXT = {"getattr", "hasattr", "setattr", "delattr"}


def _is_private(name):
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def _imported(node):
    """Return the dotted names that an import of another package names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return []
    return [name for name in names if name.partition(".")[0] != "bsrbench"]


def _is_own(value):
    """Tell whether something is the object whose class the code stands in."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func.id in {"super", "type"}
    return isinstance(value, ast.Name) and value.id in OWN


def _named_by_text(node):
    """Return the name that a call such as ``getattr`` is given, and whose it is."""
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    if not called or node.func.id not in BY_TEXT or len(node.args) < 2:
        return None
    name = node.args[1]
    is_text = isinstance(name, ast.Constant) and isinstance(name.value, str)
    return (node.args[0], name.value) if is_text else None


def _private_names(source):
    """Return every use of a name that begins with an underscore and is not the code's own."""
    found = []
    for node in ast.walk(ast.parse(source)):
        found += [name for name in _imported(node) if any(map(_is_private, name.split(".")))]
        used = (node.value, node.attr) if isinstance(node, ast.Attribute) else _named_by_text(node)
        if used and _is_private(used[1]) and not _is_own(used[0]):
            found.append(f"{ast.unparse(used[0])}.{used[1]}")
    return [name for name in found if name not in DOCUMENTED]


def _files():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def test_private_names_of_other_packages_are_used_in_their_rooms_only():
    found = {name: _private_names(text) for name, text in _files() if name not in ROOMS}

    assert {} == {name: used for name, used in found.items() if used}


def test_every_room_is_needed():
    texts = dict(_files())

    assert {} == {name: [] for name in ROOMS if not _private_names(texts[name])}


def test_no_other_file_is_excused_from_the_linters_rule():
    excused = [name for name, text in _files() if "SLF001" in text]

    assert [] == excused


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import torch._dynamo", "torch._dynamo"),
        ("from torch._dynamo import exc", "torch._dynamo.exc"),
        ("from torch import _C", "torch._C"),
        (
            "def f():\n    from torch.utils._pytree import tree_leaves",
            "torch.utils._pytree.tree_leaves",
        ),
        ("identity = storage._cdata", "storage._cdata"),
        ("softmax = torch.ops.aten._softmax", "torch.ops.aten._softmax"),
        ("number = self.vit._pos_embed(x)", "self.vit._pos_embed"),
        (
            "server = multiprocessing.forkserver._forkserver",
            "multiprocessing.forkserver._forkserver",
        ),
        ("value = getattr(tensor, '_version')", "tensor._version"),
    ],
)
def test_a_planted_use_is_found(source, name):
    assert name in _private_names(source)


@pytest.mark.parametrize(
    "source",
    [
        "from __future__ import annotations",
        "class A:\n    def f(self):\n        return self._x, cls._y, super()._z, type(self)._w",
        "name = thing.__name__, vars(thing).__class__",
        "from bsrbench.harness.launch.processes.pass_process import _opened",
        "from ._beside import name",
        "import torch.nn.functional as _functional",
    ],
)
def test_own_names_and_pythons_are_no_private_names_of_others(source):
    assert [] == _private_names(source)
