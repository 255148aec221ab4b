"""Makes the reference pages from the program itself; mkdocs calls ``on_files``.

Nothing here imports torch: methods and functions are read as text.
"""

import ast
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File, Files

from harness.cli import main
from harness.metrics import METRICS
from harness.record import TrialRecord
from harness.suite import Suite

ROOT = Path(__file__).resolve().parents[1]
PYTHON = (
    ("harness", "harness/__init__.py", ("profile",)),
    ("harness.own_step", "harness/own_step.py", ("StepProfile",)),
    ("methods", "methods/__init__.py", ("names", "find", "load")),
    ("harness.method", "harness/method.py", ("Method", "Unsupported", "Kind")),
    ("harness.vit", "harness/vit.py", ("blocks", "head", "final_norm", "require_class_token")),
)


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages = {
        "commands": commands(),
        "methods": methods(),
        "metrics": metrics(),
        "suites": schema("Suites", "A suite is a TOML file, what to compare.", Suite),
        "records": schema("Records", "A record is a JSON file, one trial, whole.", TrialRecord),
        "python": python(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def commands() -> str:
    """Return every command's help."""
    parts = ["# Commands", _help(main, "bsrbench")]
    for name, command in sorted(main.commands.items()):
        parts += [f"## bsrbench {name}", _help(command, f"bsrbench {name}")]
        for part, below in sorted(getattr(command, "commands", {}).items()):
            whole = f"bsrbench {name} {part}"
            parts += [f"### {whole}", _help(below, whole)]
    return "\n\n".join(parts) + "\n"


def _help(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, max_content_width=90, terminal_width=90)
    return f"```text\n{command.get_help(context)}\n```"


def methods() -> str:
    """Return every shipped method's card."""
    parts = ["# Methods"]
    for path in sorted((ROOT / "methods").glob("[a-z]*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and any(_is(base, "Method") for base in node.bases):
                parts += [f"## {path.stem}", f"*{_fact(node, 'source')}*", *_docstring(node)]
    return "\n\n".join(parts) + "\n"


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _fact(node: ast.ClassDef, name: str) -> str:
    """Return a fact a class declares, as text."""
    for line in node.body:
        if isinstance(line, ast.Assign) and _is(line.targets[0], name):
            return str(ast.literal_eval(line.value))
    return ""


def _docstring(node: ast.ClassDef | ast.FunctionDef) -> Iterator[str]:
    """Return a docstring as Markdown; its sections of names become lists."""
    for block in inspect.cleandoc(ast.get_docstring(node) or "").split("\n\n"):
        first, *rest = block.splitlines()
        if not first.endswith(":") or not rest or not rest[0].startswith(" "):
            yield block.replace("``", "`")
            continue
        items: list[str] = []
        for line in rest:
            if line.startswith("     "):
                items[-1] += f" {line.strip()}"
            else:
                items.append(line.strip())
        listed = (
            f"- `{name}`: {what.strip()}" for name, _, what in (i.partition(":") for i in items)
        )
        yield f"{first}\n\n" + "\n".join(listed).replace("``", "`")


def metrics() -> str:
    """Return the definition of every metric."""
    lines = ["# Metrics", "", "| name | unit | better | definition |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{name}` | {metric.unit} | {metric.direction} | {metric.definition} |"
        for name, metric in METRICS.items()
    ]
    return "\n".join(lines) + "\n"


def schema(title: str, sentence: str, described: Any) -> str:
    """Return the keys of a file, object by object, from its JSON Schema."""
    found = described.model_json_schema()
    parts = [f"# {title}", sentence, *_object(described.__name__, found)]
    for name, definition in found.get("$defs", {}).items():
        if "properties" in definition:
            parts += _object(name, definition)
    return "\n\n".join(parts) + "\n"


def _object(name: str, definition: dict[str, Any]) -> list[str]:
    lines = ["| key | type | unless said |", "| --- | --- | --- |"]
    needed = set(definition.get("required", ()))
    for key, what in definition["properties"].items():
        usual = "must be given" if key in needed else f"`{json.dumps(what.get('default'))}`"
        lines.append(f"| `{key}` | {_type(what)} | {usual} |")
    described = definition.get("description", "").split("\n\nAttributes:")
    explained = (
        [f"- {line.strip()}" for line in described[1].splitlines() if line.strip()]
        if len(described) > 1
        else []
    )
    return [f"## {name}", described[0], "\n".join(lines), "\n".join(_joined(explained))]


def _joined(lines: list[str]) -> list[str]:
    """Join what the docstring wrapped: a line without a name goes on with the one before."""
    out: list[str] = []
    for line in lines:
        if (
            out
            and ": " not in line.partition(" ")[2].split(" ")[0] + " "
            and ":" not in line.split()[1]
        ):
            out[-1] += line.removeprefix("-")
        else:
            out.append(line)
    return out


def _type(what: dict[str, Any]) -> str:
    if "$ref" in what:
        return what["$ref"].rpartition("/")[2]
    if "anyOf" in what:
        return " or ".join(_type(one) for one in what["anyOf"])
    if "enum" in what:
        return " or ".join(f"`{json.dumps(value)}`" for value in what["enum"])
    if what.get("type") == "array":
        return f"list of {_type(what.get('items', {}))}"
    return str(what.get("type", what.get("const", "any")))


def python() -> str:
    """Return the functions and classes that people import."""
    parts = ["# Python"]
    for module, file, wanted in PYTHON:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name in wanted:
                signature = (
                    f"({ast.unparse(node.args)})" if isinstance(node, ast.FunctionDef) else ""
                )
                parts += [f"## {module}.{node.name}", f"```text\n{node.name}{signature}\n```"]
                parts += list(_docstring(node))
    return "\n\n".join(parts) + "\n"
