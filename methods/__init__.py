"""One file per fine-tuning method; the name of the file is the name of the method."""

if __name__ != "bsrbench.methods":
    raise ImportError("the package 'methods' is called 'bsrbench.methods': import it by that name")

import dataclasses
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bsrbench.harness.composition import Composed
from bsrbench.harness.errors import BadInput, explain, unknown
from bsrbench.harness.files import require_plain_text
from bsrbench.harness.method import Method
from bsrbench.harness.renamed_modules import old_imports
from bsrbench.harness.source_files import hash_of_files, method_files

ENTRY_POINTS = "bsrbench.methods"
FOLDER = Path(__file__).absolute().parent


def names() -> list[str]:
    """Return every method's name: files in this folder and installed entry points."""
    return sorted(_here() | {point.name for point in _entry_points()})


def usable(name: str) -> str:
    """Return a name under which a method can be used: its own, or after one that it follows."""
    first = find(name).follows
    return f"{first}+{name}" if first else name


def alone() -> list[str]:
    """Return the methods that can be used without another one."""
    return [name for name in names() if not find(name).follows]


def find(name: str) -> type[Method]:
    """Return the class of one method, by its name or as ``file.py:Class``.

    Raises:
        BadInput: the method does not exist, its file cannot be run, or the file does not define
            exactly one method.
    """
    if ".py:" in name or name.endswith(".py"):
        return _from_file(name)
    if name not in _here():  # checked first, because listing entry points is slow
        return _from_entry_point(name)
    where = f"methods/{name}.py"
    module_spec = importlib.util.find_spec(f"{__name__}.{name}")
    with _explained(where, Path(str(module_spec and module_spec.origin))):
        module = importlib.import_module(f"{__name__}.{name}")
    defined = _methods_of(module)
    if len(defined) != 1:
        raise BadInput(f"{where} must define exactly one Method, it defines {len(defined)}")
    return defined[0]


def load(name: str, **options: Any) -> Method:
    """Return a method, or a composition of methods, with its options set.

    Example of a composition: ``load("bsr+int8", int8={...})``.

    Args:
        name: a method, or methods joined by ``+``, which prepare the model in this order.
        options: the options of the method; for a composition, one mapping per part.

    Raises:
        BadInput: a method or an option is unknown, or a value is out of range.
    """
    parts = name.split("+")
    if len(parts) == 1:
        return _build(name, options)
    if len(set(parts)) < len(parts):
        raise BadInput(f"{name!r} names a method twice; a method can be applied only once")
    for key, value in options.items():
        if key not in parts:
            raise unknown(f"part of {name!r} named", key, parts)
        if not isinstance(value, dict):
            raise BadInput(
                f"options of {name!r} must be grouped by part ({key} = {{...}}), got {value!r}"
            )
    return Composed(parts=tuple(_build(part, options.get(part, {})) for part in parts))


def fingerprint(name: str) -> str:
    """Return the first 8 hex digits of the hash of a method's files (``source_files``)."""
    return hash_of_files(source_files(name))


def source_files(name: str) -> list[Path]:
    """Return the files that a method consists of.

    These are its own file (for a composition, the file of each part), the files that it imports
    from ``parts``, and the C++ files that these files name.
    """
    own = [Path(inspect.getfile(find(part))) for part in name.split("+")]
    return method_files(own, FOLDER / "parts")


def _here() -> set[str]:
    return {module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg}


def _from_entry_point(name: str) -> type[Method]:
    points = [point for point in _entry_points() if point.name == name]
    if not points:
        raise unknown("method", name, names())
    with _explained(f"entry point {points[0].value!r} of the method {name!r}"):
        loaded: type[Method] = points[0].load()
    return loaded


def _entry_points() -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group=ENTRY_POINTS)


def _from_file(name: str) -> type[Method]:
    file, class_name = (name, "") if name.endswith(".py") else name.rsplit(":", 1)
    path = Path(file)
    if not path.is_file():
        raise BadInput(f"no file {file!r}; expected FILE.py:CLASS")
    module = _module(path.resolve(), path.stat().st_mtime_ns)
    method_class = getattr(module, class_name, None)
    if isinstance(method_class, type) and issubclass(method_class, Method):
        return method_class
    defined = [f"{file}:{method.__name__}" for method in _methods_of(module)]
    expected = " or ".join(defined) or "FILE.py:CLASS, but the file defines no Method"
    raise BadInput(f"{name!r} is not a bsrbench.harness.method.Method; expected {expected}")


@functools.lru_cache(maxsize=64)
def _module(path: Path, changed_at: int) -> ModuleType:  # noqa: ARG001 - part of the cache key
    """Return the module that a file defines; it is loaded again only if the file changes.

    Raises:
        BadInput: the file cannot be run.
    """
    require_plain_text(path)
    # The name contains the folder, because another module can have the file's name.
    name = f"{path.parent}.{path.stem}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise BadInput(f"{str(path)!r} cannot be loaded as Python")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module  # dataclasses and inspect look up a class's module there
    with _explained(str(path), path):
        module_spec.loader.exec_module(module)
    return module


@contextmanager
def _explained(where: str, path: Path | None = None) -> Iterator[None]:
    """Turn an error in the source of a method into one line that says why it cannot be run."""
    try:
        yield
    except ModuleNotFoundError as error:
        _explain_old_imports(where, path, error)
        raise BadInput(
            f"{where} needs the package {error.name!r}, which is not installed here: install it "
            f"in the same environment as bsrbench ({sys.executable} -m pip install ...)"
        ) from error
    except (Exception, SystemExit) as error:
        if isinstance(error, ImportError):
            _explain_old_imports(where, path, error)
        lines = [line for file, line in _frames(error) if file.endswith(where)]
        place = f"{where}:{lines[-1]}" if lines else where
        raise BadInput(f"{place}: {type(error).__name__}: {error}") from error


def _explain_old_imports(where: str, path: Path | None, error: ImportError) -> None:
    """Name the new modules, if a file cannot be imported because it uses old module names."""
    advice = old_imports(path.read_text(encoding="utf-8")) if path else []
    if advice:
        raise BadInput(
            f"{where}: {'; '.join(advice)} (all modules are now in the package bsrbench: see "
            "docs/how-to/migrate.md)"
        ) from error


def _frames(error: BaseException) -> list[tuple[str, int]]:
    """Return the file and the line of each stack frame in an error's traceback."""
    return [
        (frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)
    ]


def _methods_of(module: ModuleType) -> list[type[Method]]:
    """Return the method classes that a module defines itself, without imported ones."""
    return [
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Method)
        and item.__module__ == module.__name__
    ]


def _build(name: str, options: dict[str, Any]) -> Method:
    method = find(name)
    if inspect.isabstract(method):
        raise BadInput(
            f"{name!r} does not define prepare(self, model), which must return the model to train"
        )
    fields = [field.name for field in dataclasses.fields(method)]
    for key in options:
        if key not in fields:
            raise unknown(f"option of {name!r} named", key, fields)
    try:
        text = json.dumps(options, allow_nan=False)
    except TypeError as error:
        raise BadInput(f"options of {name!r} must be plain values: {error}") from error
    except ValueError as error:  # JSON, and so a record, cannot contain infinity or NaN
        raise BadInput(
            f"options of {name!r} must be finite numbers, got {json.dumps(options)}"
        ) from error
    try:
        # Reading from JSON turns the lists of a suite into the tuples that the options declare.
        return TypeAdapter(method).validate_json(text, strict=True)
    except ValidationError as error:
        raise explain(error, f"options of {name!r}") from error
