"""Whether gates can be met at all, by what is known before anything is ordered. Pure.

A device on which one can never be met is a misfit: it would be waited for until its deadline, and fail then.
"""

from collections.abc import Sequence
from typing import Final

from fleet.rollouts.gates import Gate
from modules.errors import Invalid
from modules.manifest import Manifest, Runtime
from modules.needs import HostFacts, offered
from modules.words import printable

_PROVIDER: Final = 100


def why_not(gates: Sequence[Gate], host: HostFacts, runtime: Runtime, *, replaces: bool) -> tuple[str, ...]:
    """Why gates can never be met on a device that would run the module so; none: all may be.

    ``replaces``: there is another module in its slot, with which this one can be compared.
    """
    found = []
    for gate in gates:
        if gate.measure == "provider" and (instead := _instead(gate.is_ or "", host, runtime)):
            found.append(f"a gate asks for {printable(gate.is_ or 'no provider', _PROVIDER)}, {instead}")
        if gate.missing == "pass":
            continue
        if gate.measure == "temperature_c" and host.thermal is False:
            found.append("a gate asks for its temperature, and it has no sensor; missing: pass leaves it out")
        if (gate.at_most_times is not None or gate.measure == "drift") and not replaces:
            found.append(
                f"a gate compares {gate.measure} with the module that is replaced, and there is no other in this slot;"
                " missing: pass leaves it out"
            )
    return tuple(found)


def check(gates: Sequence[Gate], manifest: Manifest, samples: int | None) -> None:
    """Whether this module can meet the gates on any device; ``samples`` it brings along, None where it has none.

    Raises:
        Invalid: it has no samples, or fewer than a gate must rest on.
    """
    for number, gate in enumerate(gates, start=1):
        if gate.measure != "sample_percent" or gate.missing == "pass":
            continue
        if not samples or samples < gate.minimum:
            has = f"has {samples}" if samples else "brings none along"
            raise Invalid(
                f"it must rest on {gate.minimum} samples, and {manifest.ref} {has}",
                element=f"policy.gates, gate {number}",
                remedy="lower its minimum, leave the gate out, or register the module with more samples",
            )


def _instead(wanted: str, host: HostFacts, runtime: Runtime) -> str:
    """What a device would use instead of the provider that a gate asks for; empty: that very one."""
    here = offered(host, runtime)
    used = next((one for one in runtime.providers if one in here), None)
    if used == wanted:
        return ""
    if used is None:
        return f"and it offers none of {', '.join(runtime.providers)}"
    return f"and the module would run on {used} here"
