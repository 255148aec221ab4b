"""Commands for authors of methods: new-method, check."""

import re
import sys
from pathlib import Path

import click

from bsrbench.harness.cli.completion import method_names
from bsrbench.harness.cli.exits import FAILED
from bsrbench.harness.cli.printing import say
from bsrbench.harness.errors import BadInput

TEMPLATES = Path(__file__).absolute().with_name("templates")
ENDING = ".py.txt"


@click.command("new-method")
@click.argument("name")
@click.option(
    "--like",
    type=click.Choice(sorted(path.name.removesuffix(ENDING) for path in TEMPLATES.glob("*"))),
    default="bsr",
    show_default=True,
    help="Method to use as the template.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder for the file; the default is the current folder.",
)
def new_method(name: str, like: str, folder: Path) -> None:
    """Write a commented file with a working method that already passes 'bsrbench check'.

    The places to change are marked EDIT. In this project's methods/ folder the method is found by
    its name; in any other folder, name it as FILE:CLASS.

    \b
    Examples:
      bsrbench new-method mine
      bsrbench new-method mine --like int8 --folder methods
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.files import write_whole

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise BadInput(
            f"{name!r} cannot be a method's name: expected lower-case letters, digits and '_', "
            "beginning with a letter, because it becomes the name of a Python file"
        )
    path = folder / f"{name}.py"
    if path.exists():
        raise BadInput(f"{path} already exists: choose another name")
    made = "".join(part.capitalize() for part in name.split("_"))
    called = name if _is_found_by_name(folder) else f"{path}:{made}"
    text = (TEMPLATES / f"{like}{ENDING}").read_text(encoding="utf-8")
    for place, what in (("@NAME@", name), ("@CLASS@", made), ("@WHERE@", called)):
        text = text.replace(place, what)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}") from error
    say(f"{path}: edit it, then")
    say(f"  bsrbench check {called}")
    say(f"  bsrbench run quick --methods full,bsr,{called}")


def _is_found_by_name(folder: Path) -> bool:
    import importlib.util

    package = importlib.util.find_spec("bsrbench.methods")
    places = package.submodule_search_locations if package else None
    return folder.resolve() in {Path(place).resolve() for place in places or ()}


@click.command()
@click.argument("method", shell_complete=method_names)
def check(method: str) -> None:
    """Check that a method does what it declares and what every method must do.

    METHOD is a name, several names joined by '+', or FILE:CLASS. Each promise is tested on a tiny
    vision transformer; this takes a few seconds. A broken promise is explained, with the line of
    code if it is known, and the exit code is then 1. These checks cannot show that a method does
    what its paper says: the end of the output lists what the method's own tests must cover.

    \b
    Examples:
      bsrbench check bsr+int8
      bsrbench check ./mine.py:Mine
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench import methods
    from bsrbench.harness.conformance.checks import examine
    from bsrbench.harness.conformance.subject import Subject
    from bsrbench.harness.conformance.unchecked import unseen

    kinds = methods.load(method).kinds
    broken = 0
    for result in examine(Subject(method, methods.find, methods.load)):
        say(f"{'BROKEN' if result.broken else 'ok    '} {result.check.promise()}")
        if result.broken:
            broken += 1
            place = f" ({result.where})" if result.where else ""
            say(f"       {result.broken}{place}")
            say(f"       the check: {result.check.place()}")
            if result.check.first:
                say("       the promises after this one depend on it, and were not checked")
    if broken:
        say(f"{method} breaks {broken} promise{'' if broken == 1 else 's'}", err=True)
        sys.exit(FAILED)
    say(f"{method} keeps every promise that can be checked without knowing its purpose")
    say("the method's own tests must compare these with its source or a slow implementation:")
    for line in unseen(kinds):
        say(f"- {line}")
