"""Files of inputs: the folders that samples come from, the file that an input becomes."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LATE = ROOT / "results" / "late"
FOLDERS = (LATE, ROOT / "results" / "cifar-small")


def write_input(place, name, content):
    path = place.cleared() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
