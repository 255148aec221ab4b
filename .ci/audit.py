"""Look the pinned packages up in the list of known vulnerabilities, where that can be reached."""

import json
import subprocess
import sys
from typing import Any

PIP_AUDIT = (sys.executable, "-m", "pip_audit", "--requirement", "constraints.txt")
HOW = ("--disable-pip", "--no-deps", "--format", "json", "--progress-spinner", "off")


def judge(dependencies: list[dict[str, Any]]) -> tuple[list[str], bool]:
    """Return what is to be said of pip-audit's findings, and whether they are a failure."""
    unknown = [found["name"] for found in dependencies if "skip_reason" in found]
    said = [
        f"{found['name']} {found['version']}: {hole['id']}, mended in "
        f"{', '.join(hole['fix_versions']) or 'no version'}"
        for found in dependencies
        for hole in found.get("vulns", ())
    ]
    failed = bool(said)
    if len(unknown) == len(dependencies):
        return ["NOTHING was audited: the list of known vulnerabilities cannot be had here"], False
    if unknown:
        said.append(f"not in the list, so not audited: {', '.join(unknown)}")
    said.append(f"{len(dependencies) - len(unknown)} of {len(dependencies)} packages audited")
    return said, failed


def main() -> int:
    """Audit, and return the exit code."""
    done = subprocess.run([*PIP_AUDIT, *HOW], capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:  # no connection: it ends with a traceback instead of findings
        found = []
    said, failed = judge(found)
    sys.stdout.write("\n".join(said) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
