"""The tox environment that builds the documentation has what the reference pages import."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What docs/reference.py imports of the program, without mkdocs: its environment has no torch.
OF_THE_REFERENCE = """
import ast, sys
from pathlib import Path
import bsrbench.harness.cli, bsrbench.harness.records.metrics, bsrbench.harness.spec.suite
import bsrbench.harness.records.trial_record, docs.models
ours = [m for n, m in sys.modules.items() if n.partition(".")[0] in ("bsrbench", "docs")]
for path in [module.__file__ for module in ours if module.__file__]:
    for node in ast.parse(Path(path).read_text()).body:
        if isinstance(node, ast.Import):
            print(*(alias.name for alias in node.names), sep="\\n")
        elif isinstance(node, ast.ImportFrom):
            print(node.module)
"""


def test_the_environment_of_the_documentation_has_what_the_reference_pages_import():
    printed = subprocess.run(
        [sys.executable, "-c", OF_THE_REFERENCE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    imported = {name.partition(".")[0] for name in printed.split()}
    outside = imported - set(sys.stdlib_module_names) - {"bsrbench", "docs"}
    settings = configparser.RawConfigParser()
    settings.read(ROOT / "tox.ini")
    installed = {re.split(r"[<>=]", line)[0] for line in settings["testenv:docs"]["deps"].split()}

    assert "click" in outside
    assert outside <= installed
