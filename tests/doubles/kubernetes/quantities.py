"""Amounts as Kubernetes writes them: what is sent as ``1000m`` or ``1024Mi`` is read back as ``1`` and ``1Gi``."""

import re
from decimal import ROUND_CEILING, Decimal

_FORM = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))([numkMGTPE]?|[KMGTPE]i|[eE][+-]?\d+)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
EXPRESSION = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


class NoQuantity(ValueError):
    """It is none."""


def _parts(text: object) -> tuple[Decimal, str]:
    match = _FORM.fullmatch(str(text))
    if match is None:
        raise NoQuantity(EXPRESSION)
    number, suffix = Decimal(match[1]), match[2]
    if suffix in _BINARY[1:]:
        return number * 1024 ** _BINARY.index(suffix), suffix
    if suffix in _DECIMAL:
        return number.scaleb(_DECIMAL[suffix]), suffix
    return number.scaleb(int(suffix[1:])), suffix


def amount(text: object) -> Decimal:
    return _parts(text)[0]


def canonical(text: object) -> str:
    """No more digits than needed, and a suffix of the same family; no finer than a billionth."""
    value, suffix = _parts(text)
    value = value.quantize(Decimal("1e-9"), ROUND_CEILING) if value.as_tuple().exponent < -9 else value
    if suffix in _BINARY[1:] and value == value.to_integral_value() and abs(value) >= 1024:
        whole, power = int(value), 0
        while whole and whole % 1024 == 0 and power < len(_BINARY) - 1:
            whole, power = whole // 1024, power + 1
        return f"{whole}{_BINARY[power]}"
    if not value:
        return "0"
    if suffix[:1] in {"e", "E"} and len(suffix) > 1:
        power = max(one for one in range(-9, 19, 3) if value.scaleb(-one) == value.scaleb(-one).to_integral_value())
        return f"{int(value.scaleb(-power))}" + (f"e{power}" if power else "")
    power = max(one for one in _DECIMAL.values() if value.scaleb(-one) == value.scaleb(-one).to_integral_value())
    named = next(name for name, one in _DECIMAL.items() if one == power)
    return f"{int(value.scaleb(-power))}{named}"
