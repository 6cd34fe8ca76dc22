"""Which devices a rollout could have: those that a selector means, sorted into fitting and misfits."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from fleet.rollouts import measurable
from fleet.rollouts.gates import Gate
from fleet.rollouts.model import Candidate
from fleet.selectors import Labels
from modules.manifest import Manifest
from modules.names import DeviceId
from modules.needs import HostFacts, fits

NO_FACTS = "has sent no facts yet"
# Instead of a kind of hardware: a fallback answers for these.
ELSEWHERE = "elsewhere"


class Misfit(msgspec.Struct, frozen=True):
    """A device that was selected but cannot run the module, with every reason."""

    device: str
    reasons: tuple[str, ...]


def sort(
    manifest: Manifest,
    engine: str,
    found: Iterable[tuple[Candidate, HostFacts | None]],
    gates: Sequence[Gate] = (),
    replacing: Collection[DeviceId] = (),
    lacking: Mapping[DeviceId, tuple[str, ...]] | None = None,
    *,
    elsewhere: Callable[[DeviceId, Labels], bool] = lambda _device, _labels: False,
) -> tuple[list[Candidate], list[Misfit]]:
    """The devices that the module fits, each with its kind of hardware, and those that it does not, with why.

    ``replacing``: devices that have another module in the slot, with which gates can compare this one. ``lacking``: why
    the module could not be given its secrets there. ``elsewhere``: whether a fallback answers for one
    that it does not fit.
    """
    fitting, misfits = [], []
    for candidate, host in found:
        fit = fits(manifest, host, engine=engine) if host else None
        if fit is None or host is None:
            misfits.append(Misfit(candidate.device, (NO_FACTS,)))
        elif fit.runtime is None or fit.unmet:
            if elsewhere(DeviceId(candidate.device), candidate.labels):
                fitting.append(msgspec.structs.replace(candidate, hardware=ELSEWHERE))
                continue
            misfits.append(Misfit(candidate.device, fit.unmet))
        elif lacks := (lacking or {}).get(candidate.device):
            misfits.append(Misfit(candidate.device, lacks))
        elif why := measurable.why_not(gates, host, fit.runtime, replaces=candidate.device in replacing):
            misfits.append(Misfit(candidate.device, why))
        else:
            kind = f"{fit.runtime.platform} {fit.runtime.accelerator}"
            fitting.append(msgspec.structs.replace(candidate, hardware=kind[:100]))
    return fitting, misfits
