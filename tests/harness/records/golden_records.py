"""The golden records of a profile and of a training."""

import json
from pathlib import Path

GOLDEN = Path(__file__).parents[2] / "golden"
PROFILE, TRAINING = (GOLDEN / f"{kind}-schema-8.json" for kind in ("profile", "training"))


PROFILE_NAME = f"{json.loads(PROFILE.read_text())['key']}.json"
