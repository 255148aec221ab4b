"""Makes the reference pages from the program itself; mkdocs calls ``on_files``.

Nothing here imports torch: methods and functions are read as text.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File, Files

from bsrbench.harness.cli import main
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.trial_record import TrialRecord, record_schema
from bsrbench.harness.spec.suite import Suite
from docs import models

ROOT = Path(__file__).resolve().parents[1]
CAPABILITIES = ROOT / "results" / "capabilities" / "capabilities.md"
LONG = 40  # characters of a default, beyond which it is described in words
WIDTH = 76  # characters that a page shows without scrolling
PYTHON = (
    ("bsrbench", "bsrbench/__init__.py", ("profile",)),
    (
        "bsrbench.harness.own_step.step_profile",
        "harness/own_step/step_profile.py",
        ("StepProfile",),
    ),
    ("bsrbench.methods", "methods/__init__.py", ("names", "find", "load")),
    ("bsrbench.harness.method", "harness/method.py", ("Method", "Unsupported", "Kind")),
    (
        "bsrbench.harness.model.vit",
        "harness/model/vit.py",
        ("blocks", "head", "tokens_read", "final_norm", "require_class_token", "require_blocks"),
    ),
    (
        "bsrbench.methods.parts.trained_parameters",
        "methods/parts/trained_parameters.py",
        ("train_only", "require_all_train"),
    ),
    (
        "bsrbench.methods.parts.token_dropping",
        "methods/parts/token_dropping.py",
        ("drop_in", "KeepRate", "tokens_passed_on"),
    ),
    ("bsrbench.methods.parts.extend_module", "methods/parts/extend_module.py", ("extend",)),
    ("bsrbench.harness.pytest_plugin", "harness/pytest_plugin/result.py", ("Result",)),
)


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages = {
        "commands": commands(),
        "methods": methods(),
        "models": models.page(),
        "capabilities": CAPABILITIES.read_text(encoding="utf-8"),
        "metrics": metrics(),
        "suites": schema(
            "Suites",
            "A suite is a TOML file that says what to compare.",
            Suite.__name__,
            Suite.model_json_schema(),
        ),
        "records": schema(
            "Records",
            "A record is a JSON file about one trial.",
            TrialRecord.__name__,
            record_schema(),
        ),
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
    width = {"max_content_width": WIDTH, "terminal_width": WIDTH}
    context = click.Context(command, info_name=name, **width, **main.context_settings)
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
        listed = (f"- `{name}`: {what}" for name, what in _items(rest))
        yield f"{first}\n\n" + "\n".join(listed).replace("``", "`")


def metrics() -> str:
    """Return the definition of every metric."""
    lines = ["# Metrics", "", "| name | unit | better | definition |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{name}` | {metric.unit} | {metric.direction} | {metric.definition} |"
        for name, metric in METRICS.items()
    ]
    return "\n".join(lines) + "\n"


def schema(title: str, sentence: str, of_file: str, described: dict[str, Any]) -> str:
    """Return the keys of a file, object by object, from its JSON Schema."""
    parts = [f"# {title}", sentence, *_object(of_file, described)]
    for name, definition in described.get("$defs", {}).items():
        if "properties" in definition:
            parts += _object(name, definition)
    return "\n\n".join(parts) + "\n"


def _object(name: str, definition: dict[str, Any]) -> list[str]:
    described = inspect.cleandoc(definition.get("description", ""))
    sentence, _, attributes = described.partition("\n\nAttributes:\n")
    meanings = dict(_items(attributes.splitlines()))
    needed = set(definition.get("required", ()))
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for key, what in definition["properties"].items():
        usual = "required" if key in needed else _default(what.get("default"))
        lines.append(f"| `{key}` | {_type(what)} | {usual} | {meanings.get(key, '')} |")
    return [f"## {name}", sentence.replace("``", "`"), "\n".join(lines).replace("``", "`")]


def _default(value: Any) -> str:
    text = json.dumps(value)
    return f"`{text}`" if len(text) < LONG else "one object with its defaults"


def _items(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Return the names of a docstring's section with what is said of each, unwrapped."""
    items: list[str] = []
    indent = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
    for line in lines:
        if line.startswith(" " * (indent + 1)) and items:
            items[-1] += f" {line.strip()}"
        elif line.strip():
            items.append(line.strip())
    for item in items:
        name, _, what = item.partition(":")
        yield name, what.strip()


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
        for node in _named(tree.body, wanted):
            parts += [f"## {module}.{node.name}", *_described(node)]
    return "\n\n".join(parts) + "\n"


def _named(body: list[ast.stmt], wanted: tuple[str, ...]) -> Iterator[Any]:
    there = {node.name: node for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    return (there[name] for name in wanted)


def _described(node: ast.ClassDef | ast.FunctionDef) -> Iterator[str]:
    """Return a definition as Markdown; of a class also its members that are not private."""
    if isinstance(node, ast.FunctionDef):
        yield f"```text\n{_signature(node)}\n```"
    yield from _docstring(node)
    if isinstance(node, ast.ClassDef):
        for line in node.body:
            if isinstance(line, ast.FunctionDef) and not line.name.startswith("_"):
                yield f"### {node.name}.{line.name}"
                yield from _described(line)
            elif isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant):
                yield f"- `{ast.unparse(line)}`"


def _signature(node: ast.FunctionDef) -> str:
    """Return how a function is called, an argument a line where one line is too short."""
    arguments = ast.unparse(node.args).replace("'", "")
    returned = f" -> {ast.unparse(node.returns)}".replace("'", "") if node.returns else ""
    whole = f"{node.name}({arguments}){returned}"
    if len(whole) <= WIDTH:
        return whole
    each = re.sub(r", (?=\*|\w+:)", ",\n    ", arguments)
    return f"{node.name}(\n    {each},\n){returned}"
