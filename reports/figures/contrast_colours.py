"""Colours with sufficient contrast to their background by WCAG 2."""

LEAST_OF_MARKS = 3.0  # WCAG 2.2, 1.4.11: graphical objects
STEP = 0.05
LINEAR_BELOW, LINEAR_SLOPE = 0.04045, 12.92  # sRGB's straight part, IEC 61966-2-1
WEIGHTS = (0.2126, 0.7152, 0.0722)  # of red, green, blue in luminance


def contrast(colour: str, other_colour: str) -> float:
    """Return the contrast ratio of two ``#rrggbb`` colours, 1 to 21."""
    low, high = sorted((_luminance(colour), _luminance(other_colour)))
    return (high + 0.05) / (low + 0.05)


def legible(colour: str, background: str, least: float = LEAST_OF_MARKS) -> str:
    """Return the colour, made darker or lighter until its contrast is sufficient."""
    towards = 0 if _luminance(background) > _luminance("#777777") else 255
    mixed, share = colour, 0.0
    while contrast(mixed, background) < least and share < 1:
        share = min(1.0, share + STEP)
        mixed = _mixed(colour, towards, share)
    return mixed


def _mixed(colour: str, towards: int, share: float) -> str:
    parts = (round(part + (towards - part) * share) for part in _parts(colour))
    return "#" + "".join(f"{part:02x}" for part in parts)


def _luminance(colour: str) -> float:
    return sum(
        weight * _linear(part / 255) for weight, part in zip(WEIGHTS, _parts(colour), strict=True)
    )


def _linear(part: float) -> float:
    if part <= LINEAR_BELOW:
        return part / LINEAR_SLOPE
    return float(((part + 0.055) / 1.055) ** 2.4)


def _parts(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
