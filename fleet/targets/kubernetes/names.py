"""What the parts of an endpoint are called in a namespace, and the labels by which alone they are found again."""

import hashlib
from typing import Any, Final

from fleet.targets.container.specs import LABEL
from modules.names import Slug

MANAGER: Final = "edgefleet"
PART: Final = f"{LABEL}part"
GROUP: Final = f"{LABEL}group"
#: on the gateway's pods: the Secret with the table that they use
TABLE_OF: Final = f"{LABEL}secret"
_ENDPOINT: Final = 24
_VERSION: Final = 16
_HASH: Final = 6
_MARK: Final = 8


class Names:
    """The names of one endpoint's objects: none is longer than 63 letters, or begins with a digit.

    Args:
        fleet: the fleet's mark, so that two fleets can share a namespace.
        endpoint: the endpoint's name.
    """

    def __init__(self, fleet: str, endpoint: Slug) -> None:
        mark = hashlib.sha256(f"{fleet}/{endpoint}".encode()).hexdigest()[:_HASH]
        self.whole = f"ef-{endpoint[:_ENDPOINT].strip('-')}-{mark}"
        self.gateway = f"{self.whole}-gateway"
        self.replicas = f"{self.whole}-replicas"
        self.labels = {f"{LABEL}fleet": fleet, f"{LABEL}endpoint": endpoint}

    @property
    def selector(self) -> str:
        return _selector(self.labels)

    def group(self, group: str) -> str:
        return f"{self.whole}-{group}"

    def each(self, group: str) -> str:
        """The Service under whose name the pods of a group are found one by one."""
        return f"{self.whole}-{group}-e"

    def content(self, group: str) -> str:
        """The Secret that tells a group's pods of their module."""
        return f"{self.whole}-{group}-c"

    def secrets(self, group: str) -> str:
        """The Secret with what a group's modules are given."""
        return f"{self.whole}-{group}-s"

    def of(self, part: str, group: str = "") -> dict[str, str]:
        """The labels of one part."""
        return self.labels | {PART: part} | ({GROUP: group} if group else {})


class JobNames:
    """The names of one batch job's objects, as :class:`Names`."""

    def __init__(self, fleet: str, job: Slug) -> None:
        mark = hashlib.sha256(f"{fleet}/job/{job}".encode()).hexdigest()[:_HASH]
        self.whole = f"ef-{job[:_ENDPOINT].strip('-')}-{mark}"
        self.content = f"{self.whole}-c"
        self.secrets = f"{self.whole}-s"
        self.labels = {f"{LABEL}fleet": fleet, f"{LABEL}job": job}

    @property
    def selector(self) -> str:
        return _selector(self.labels)

    def job(self, mark: str, template: str) -> str:
        """The Job: another run, or another form of its pod, is another one."""
        return f"{self.whole}-{hashlib.sha256(f'{mark}/{template}'.encode()).hexdigest()[:_MARK]}"

    def of(self, part: str) -> dict[str, str]:
        return self.labels | {PART: part}


def _selector(labels: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in labels.items())


def group_name(version: Slug, made: str) -> str:
    """A group's name: its version, and a hash of what it is made of."""
    mark = hashlib.sha256(f"{version}/{made}".encode()).hexdigest()[:_MARK]
    return f"{version[:_VERSION].strip('-')}-{mark}"


def shown(one: dict[str, Any]) -> str:
    return str(one["metadata"]["name"])


def labels(one: dict[str, Any]) -> dict[str, str]:
    return dict(one["metadata"].get("labels") or {})


def group_of(one: dict[str, Any]) -> str:
    return labels(one).get(GROUP, "")


def part_of(one: dict[str, Any]) -> str:
    return labels(one).get(PART, "")
