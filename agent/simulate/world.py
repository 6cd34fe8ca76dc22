"""What all simulated devices share."""

from dataclasses import dataclass, field

from agent.simulate.session import Door
from agent.simulate.tally import Tally
from agent.simulate.trusting import SharedTrust
from modules.manifest import Manifest
from modules.names import DeviceId, Digest
from modules.protocol.topics import Topics


@dataclass
class World:
    """One for all devices of a process."""

    topics: Topics
    door: Door
    trust: SharedTrust
    tally: Tally
    names: list[DeviceId]
    pace_s: float = 0.2
    most_probation_s: float = 5.0
    most_window_s: float = 60.0
    pulls: bool = True
    # What every device read alike: manifests by digest.
    manifests: dict[Digest, Manifest] = field(default_factory=dict)
