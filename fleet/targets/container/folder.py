"""What the gateway's folder holds: who may come in, its certificate, the replicas to look at, and their samples."""

from collections.abc import Mapping, Sequence

import msgspec

from fleet.targets.container.plan import Seen
from fleet.targets.contract import Wanted
from fleet.targets.door import access, key
from fleet.targets.groups import PORT, Group
from modules.protocol.endpoint import CANDIDATES, Candidate, Candidates
from modules.protocol.routing import Replica


def files(wanted: Wanted, groups: Sequence[Group], seen: Seen, samples: Mapping[str, bytes]) -> dict[str, bytes]:
    """All that belongs there beside the table; ``samples`` by the group's name, empty where there are none."""
    candidates = [
        Candidate(
            replica=Replica(
                url=f"http://{one.name}:{PORT}",
                module=group.module,
                provider="",
                instance=one.name,
                key=key(wanted, group.name),
            ),
            samples=_samples_file(group) if samples[group.name] else "",
            within_s=wanted.settings.answer_s,
        )
        for group in groups
        for one in seen.of(group)
        if one.running
    ]
    listed = {CANDIDATES: msgspec.json.encode(Candidates(replicas=tuple(candidates)))}
    asked = {_samples_file(group): samples[group.name] for group in groups if samples[group.name]}
    return access(wanted) | asked | listed


def _samples_file(group: Group) -> str:
    return f"samples-{group.name}.json"
