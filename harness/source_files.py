"""Find the files that a Python file depends on: its imports, and their imports in turn."""

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path


def imported_modules(file: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, including the imports inside its functions.

    ``from a import b`` yields both ``a`` and ``a.b``, because ``b`` may be a module.
    """
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files_behind(roots: Iterable[Path], file_of_module: Callable[[str], Path | None]) -> list[Path]:
    """Return the root files and all files that they import, directly or indirectly, sorted.

    Args:
        roots: the files to start from.
        file_of_module: dotted name -> its file; ``None`` for a module to leave out.
    """
    found: set[Path] = set()
    waiting = list(roots)
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        files = map(file_of_module, imported_modules(file))
        waiting += [each for each in files if each is not None]
    return sorted(found)
