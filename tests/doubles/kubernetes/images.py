"""How containers behave, by what the test says of an image, of a container's name, or of pods' labels."""

from fnmatch import fnmatchcase
from typing import Any

import msgspec


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a container. Without a word it starts at once, is ready, and runs until it is deleted.

    ``pull`` is the error of an image that cannot be pulled, and is shown as the runtime's message; ``private`` can be
    pulled only with a pull secret that exists; ``only_here`` (side-loaded) cannot be pulled at all, but lies on the
    nodes. ``exits`` ends it with this code, ``oom`` by the kernel for memory; ``after`` is for how many steps it runs
    before that, ``times`` how often it does so before it runs well (-1: always). ``probe`` is what its failing
    readiness or startup probe says. ``steps`` is how long starting takes. ``log`` is what it has written, ``message``
    what it leaves at its end where Kubernetes keeps that. ``root`` is an image without a user of its own.
    """

    pull: str = ""
    private: bool = False
    only_here: bool = False
    exits: int | None = None
    oom: bool = False
    after: int = 0
    times: int = -1
    probe: str = ""
    liveness: str = ""
    steps: int = 0
    log: str = ""
    message: str = ""
    root: bool = False


class _Rule(msgspec.Struct, frozen=True):
    image: str
    container: str
    labels: dict[str, str]
    behaviour: Behaviour


class Images:
    """The last word counts. ``image`` may have wildcards; ``labels`` are those of the pod."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []

    def behave(
        self, image: str = "*", *, container: str = "*", labels: dict[str, str] | None = None, **behaviour: Any
    ) -> None:
        self._rules.append(_Rule(image, container, labels or {}, Behaviour(**behaviour)))

    def broken(self, image: str = "*", message: str = "", **chosen: Any) -> None:
        """It cannot be pulled: ErrImagePull, then ImagePullBackOff."""
        said = message or (
            f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found'
        )
        self.behave(image, pull=said, **chosen)

    def works(self, image: str = "*", **chosen: Any) -> None:
        """Whatever was said before."""
        self.behave(image, **chosen)

    def crashes(self, image: str = "*", code: int = 1, log: str = "", **chosen: Any) -> None:
        """It ends as soon as it is started: CrashLoopBackOff, or a failed init step or job."""
        self.behave(image, exits=code, log=log, **chosen)

    def ends(self, image: str = "*", log: str = "", **chosen: Any) -> None:
        """It does its work and ends well, as a job's container does."""
        self.behave(image, exits=0, log=log, **chosen)

    def out_of_memory(self, image: str = "*", log: str = "", **chosen: Any) -> None:
        self.behave(image, oom=True, log=log, **chosen)

    def never_ready(self, image: str = "*", message: str = "", log: str = "", **chosen: Any) -> None:
        """Its readiness probe (or startup probe, if it has one) fails."""
        self.behave(image, probe=message or "HTTP probe failed with statuscode: 503", log=log, **chosen)

    def of(self, image: str, container: str, labels: dict[str, str]) -> Behaviour:
        for rule in reversed(self._rules):
            if (
                fnmatchcase(image, rule.image)
                and fnmatchcase(container, rule.container)
                and rule.labels.items() <= labels.items()
            ):
                return rule.behaviour
        return Behaviour()
