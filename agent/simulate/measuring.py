"""What a simulated module is measured at, as its behaviour has it. Pure."""

from typing import Final

from agent.simulate.plan import Behaviour, chance
from modules.protocol.measured import Measured
from modules.sketch import BINS, bin_of

_REQUESTS_S: Final = 10
_P50_MS, _P95_MS, _MEMORY_MB, _CELSIUS = 4.0, 9.0, 60.0, 45.0
_SAMPLES: Final = 4
# Answers of a classifier: mostly nearly nothing, sometimes nearly one; and of one whose answers have moved.
_SHARES: Final = {0.0: 0.1, 0.01: 0.5, 0.1: 0.2, 0.9: 0.2}
_MOVED: Final = {0.0: 0.1, 0.01: 0.1, 3.0: 0.4, 40.0: 0.4}


def measured(behaviour: Behaviour, name: str, window_s: float, served_s: float) -> Measured:
    """One window, as a module of this behaviour would be measured; a little different on each device."""
    kind = behaviour.kind
    requests = round(_REQUESTS_S * window_s)
    near = 0.8 + 0.4 * chance(name)
    growth = behaviour.memory_growth_mb_h if kind == "leaks" else 0.0

    def share(of: str, percent: float) -> int:
        return round(requests * percent / 100) if kind == of else 0

    values = [0] * BINS
    for value, part in (_MOVED if kind == "drifts" else _SHARES).items():
        values[bin_of(value)] = round(requests * part)
    return Measured(
        seconds=window_s,
        requests=requests,
        errors=share("errors", behaviour.error_percent),
        p50_ms=(behaviour.p50_ms if kind == "slow" else _P50_MS) * near,
        p95_ms=behaviour.p95_ms if kind == "slow" else _P95_MS * near,
        answers=requests,
        nan=share("nan", behaviour.nan_percent),
        empty=share("empty", behaviour.empty_percent),
        values=tuple(values),
        samples=_SAMPLES,
        agree=0 if kind == "wrong-later" else _SAMPLES,
        memory_mb=int(behaviour.memory_mb if kind == "large" else _MEMORY_MB + growth * served_s / 3600),
        memory_growth_mb_h=growth,
        temperature_c=behaviour.temperature_c if kind == "hot" else _CELSIUS * near,
    )
