"""Find the files that a method, or another Python file, depends on, and their hash."""

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

PARTS = "bsrbench.methods.parts"
HASH_DIGITS = 8


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
    visited: set[Path] = set()
    waiting = list(roots)
    while waiting:
        file = waiting.pop()
        if file in visited:
            continue
        visited.add(file)
        files = map(file_of_module, imported_modules(file))
        waiting += [each for each in files if each is not None]
    return sorted(visited)


def method_files(own: Sequence[Path], parts: Path) -> list[Path]:
    """Return the files of a method: its own, the parts that they import, and the parts' C++ files.

    Args:
        own: the file that defines the method; of a composition one file per part.
        parts: the folder of ``bsrbench.methods.parts``.
    """

    def of_part(module: str) -> Path | None:
        package, _, name = module.rpartition(".")
        file = parts / f"{name}.py"
        return file if package == PARTS and file.is_file() else None

    # The order does not depend on where the method's own file is.
    files = [*own, *(file for file in files_behind(own, of_part) if file.parent == parts)]
    texts = [file.read_text(encoding="utf-8") for file in files]
    native = sorted(parts.glob("*.cpp"))
    return files + [file for file in native if any(f'"{file.name}"' in text for text in texts)]


def hash_of_files(files: Iterable[Path]) -> str:
    """Return 8 hex digits of a hash of the text of files, in their order."""
    text = b"\0".join(file.read_bytes() for file in files)
    return hashlib.sha256(text).hexdigest()[:HASH_DIGITS]
