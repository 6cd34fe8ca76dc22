"""A digit as a small picture in the terminal, in shades that need no colour."""

from collections.abc import Sequence
from typing import Final

SIDE: Final = 8
_SHADES: Final = " ░▒▓█"
_BLACK: Final = 16


def picture(pixels: Sequence[float]) -> str:
    """Draw 64 pixels, row by row, 0 (white) to 16 (black); a pixel is two characters wide, so that it is square."""
    rows = [pixels[start : start + SIDE] for start in range(0, SIDE * SIDE, SIDE)]
    return "\n".join("    " + "".join(_shade(value) * 2 for value in row) for row in rows)


def _shade(value: float) -> str:
    return _SHADES[round(min(max(value, 0.0), _BLACK) / _BLACK * (len(_SHADES) - 1))]
