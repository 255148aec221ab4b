"""Which files a Python file depends on: the modules that it imports, step by step."""

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path


def imported_modules(file: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, those inside its functions among them.

    ``from a import b`` yields ``a`` and ``a.b``: either may be a module.
    """
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files_behind(roots: Iterable[Path], file_of_module: Callable[[str], Path | None]) -> list[Path]:
    """Return files and those that they import, and so on, sorted, each once.

    Args:
        roots: where to begin.
        file_of_module: dotted name -> its file; ``None`` for a module that does not count.
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
