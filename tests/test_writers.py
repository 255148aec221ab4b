"""Every place of the program that writes, and that each does so by the one function that is safe.

``python -m tests.test_writers`` lists them.
"""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("harness", "methods", "reports")
SAFE = "harness/files.py"
THROUGH = ("write_whole", "replace_whole")
# What writes, or makes a name that leads to a file: by the name that is called.
WRITES = {
    *("write_text", "write_bytes", "touch", "symlink_to", "hardlink_to", "link_to", "rename"),
    *("savefig", "save", "savez", "save_file", "to_csv", "to_parquet", "to_json", "to_excel"),
    *("copy", "copy2", "copyfile", "copytree", "move", "mkstemp", "mkdtemp", "mktemp"),
    *("NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory", "write_table"),
    *("FileHandler", "SummaryWriter", "ZipFile", "extractall"),
}
OF_MODULES = {"save": ("torch", "np", "numpy"), "copy": ("shutil",), "move": ("shutil",)}
OF_OUR_OWN = {"to_csv", "to_parquet", "to_json"}  # names of functions here that go through
NEW_FOLDER, NEW_FILE = "a new temporary folder", "a new temporary file"
ONLY_READ = "an archive is read"
# Where something else writes, and why nobody's file can be meant.
REASONS = {
    ("harness/training/resume.py", "save"): "torch.save into the new file that replace_whole gives",
    ("harness/training/resume.py", "ZipFile"): ONLY_READ,
    ("harness/conformance/steps.py", "save"): "torch.save into memory",
    ("harness/cli/one_workload.py", "TemporaryDirectory"): NEW_FOLDER,
    ("harness/launch/local_launcher.py", "mkdtemp"): NEW_FOLDER,
    ("harness/launch/processes/log_file.py", "NamedTemporaryFile"): NEW_FILE,
    ("harness/launch/processes/pass_process.py", "open"): "the log, not through a link",
    ("harness/launch/processes/log_file.py", "open"): "the log, which is made new in its place",
    ("harness/launch/processes/run_folder.py", "mkdtemp"): NEW_FOLDER,
    (
        "harness/launch/processes/sweeper.py",
        "write_text",
    ): "a control group of our own, in the kernel",
    ("harness/launch/cluster/cluster_unit.py", "TemporaryDirectory"): NEW_FOLDER,
    ("harness/meters/process_memory.py", "write_text"): "the kernel's own /proc/self/clear_refs",
    ("harness/records/store.py", "rename"): "a file gets another name in a folder of our own",
    ("harness/workload/weights.py", "TemporaryDirectory"): NEW_FOLDER,
    **{
        (f"harness/workload/{name}.py", "ZipFile"): ONLY_READ
        for name in ("npz", "tensor_files", "weights")
    },
    **{
        ("harness/workload/weights.py", name): "in that folder, and from it to the cache"
        for name in ("write_text", "save_file", "replace")
    },
    ("methods/parts/kernel_builds.py", "TemporaryDirectory"): NEW_FOLDER,
    **{
        ("methods/parts/kernel_builds.py", name): "in that folder, and from it to the cache"
        for name in ("write_text", "replace")
    },
    ("reports/documents/export.py", "write_table"): "into memory",
    ("reports/figures/all_figures.py", "savefig"): "into memory",
}


def _name(call):
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr, function.value.id if isinstance(function.value, ast.Name) else ""
    return (function.id, "") if isinstance(function, ast.Name) else ("", "")


def _mode(call, place):
    given = [word.value for word in call.keywords if word.arg == "mode"]
    given += call.args[place : place + 1]
    return given[0].value if given and isinstance(given[0], ast.Constant) else "r"


def _writes(call):
    """Return whether a call writes a file, as far as its text tells."""
    name, of = _name(call)
    if name == "open":
        if of == "os":
            return any(flag in ast.unparse(call) for flag in ("O_CREAT", "O_WRONLY", "O_RDWR"))
        return bool(set("wax+") & set(str(_mode(call, 1 if not of else 0))))
    if name == "replace":  # a path's has one argument; a text's two; a dataclass's is no method
        is_method = isinstance(call.func, ast.Attribute)
        return (is_method and len(call.args) == 1 and not call.keywords) or of == "os"
    if name in OF_MODULES:
        return of in OF_MODULES[name]
    return name in WRITES


def _in_file(path):
    """Yield line and text of each call of a file that writes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name, _ = _name(node)
            if name in THROUGH or _writes(node):
                yield node.lineno, name, ast.unparse(node).splitlines()[0]


def places():
    """Return every call that writes: file, line, name of what is called, its text."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [
        (path.relative_to(ROOT).as_posix(), *found) for path in files for found in _in_file(path)
    ]


def test_every_place_that_writes_goes_through_the_one_function_or_has_its_reason():
    others = {
        (file, line, text)
        for file, line, name, text in places()
        if file != SAFE and name not in {*THROUGH, *OF_OUR_OWN} and (file, name) not in REASONS
    }

    assert not others
    assert {file for file, _, name, _ in places() if name in THROUGH} >= {
        *(
            "harness/records/store.py",
            "harness/training/resume.py",
            "harness/spec/suite_file.py",
        ),
        *("harness/cli/authors.py", "harness/cli/results.py"),
        *(
            f"reports/documents/{name}.py"
            for name in ("csv_table", "export", "html_report", "latex_tables")
        ),
        "reports/figures/all_figures.py",
        *(
            "reports/documents/markdown_report.py",
            "reports/documents/search_page.py",
            "harness/search/candidate_costs.py",
        ),
    }


def test_no_reason_is_left_over():
    assert set(REASONS) <= {(file, name) for file, _, name, _ in places()}


@pytest.mark.parametrize(
    ("text", "writes"),
    [
        ("path.write_text(text)", True),
        ("path.open('w')", True),
        ("path.open(mode='ab')", True),
        ("open(path, 'x')", True),
        ("open(path)", False),
        ("path.open('rb')", False),
        ("os.open(path, os.O_WRONLY | os.O_CREAT)", True),
        ("os.open(path, os.O_RDONLY)", False),
        ("partial.replace(path)", True),
        ("os.replace(a, b)", True),
        ("text.replace('a', 'b')", False),
        ("replace(result, status=1)", False),
        ("torch.save(kept, file)", True),
        ("store.save(record, {})", False),
        ("np.save(file, array)", True),
        ("canvas.savefig(file)", True),
        ("shutil.copy(a, b)", True),
        ("numbers.copy()", False),
    ],
)
def test_what_writes_is_told_from_what_does_not(text, writes):
    assert _writes(ast.parse(text).body[0].value) == writes


if __name__ == "__main__":
    for file, line, name, text in places():
        how = "safe" if name in {*THROUGH, *OF_OUR_OWN} else "the safe function itself"
        sys.stdout.write(f"{file}:{line}: {text[:70]}  [{REASONS.get((file, name), how)}]\n")


def test_the_store_alone_writes_results_folders():
    writing = {file for file, *_ in places() if file.startswith("harness/records/")}

    # What the doctor found is in the cache folder and in no results folder.
    assert writing == {"harness/records/store.py", "harness/records/device_examination.py"}
