"""Settings of a module that an order may change: which there are, and within which bounds."""

from typing import Annotated, Final

import msgspec

from modules.bounds import LONGEST_S, MAX_REAL, Real, Word
from modules.errors import Invalid


class Adjustable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A setting that an order may change, within bounds."""

    default: Real | Word | bool
    minimum: Real | None = None
    maximum: Real | None = None
    choices: Annotated[tuple[Word, ...], msgspec.Meta(max_length=64)] = ()


# What an order may ever change, if the manifest declares it: never mounts, devices, network or code.
ADJUSTABLE_NAMES: Final = frozenset({"batching", "log_level", "probation_s", "score_timeout_ms"})
# How far a number may be changed, whatever the manifest allows.
_WIDEST: Final = {"probation_s": (0.0, LONGEST_S), "score_timeout_ms": (1.0, LONGEST_S * 1000)}


def check_setting(name: str, setting: Adjustable, value: object) -> None:
    """Accept a value that an order gives to an adjustable setting.

    Raises:
        Invalid: another type than the default's, outside the bounds, or not among the choices.
    """
    element = f"settings.{name}"
    number = isinstance(setting.default, float | int) and not isinstance(setting.default, bool)
    if number:
        if isinstance(value, bool) or not isinstance(value, float | int):
            raise Invalid(f"{value!r} is not a number", element=element)
        least, most = _WIDEST.get(name, (-MAX_REAL, MAX_REAL))
        low = max(least, setting.minimum if setting.minimum is not None else least)
        high = min(most, setting.maximum if setting.maximum is not None else most)
        if not low <= value <= high:
            raise Invalid(f"{value!r} is outside {low:g} to {high:g}", element=element)
    elif type(value) is not type(setting.default):
        raise Invalid(f"{value!r} is not a value of type {type(setting.default).__name__}", element=element)
    if setting.choices and value not in setting.choices:
        raise Invalid(f"{value!r} is none of {', '.join(setting.choices)}", element=element)
