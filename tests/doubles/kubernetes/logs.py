"""What containers have written, as the kubelet gives it out: the present one's, and the previous one's."""

from collections.abc import Callable
from typing import Any

from tests.doubles.kubernetes.refusals import Refused, bad_request

_SERVED = {"container", "limitBytes", "previous", "tailLines", "timestamps"}
_TRUE = {"1", "true"}


class Logs:
    """Kept by pod and container; each start begins anew, and moves what was there to ``previous``.

    Each line has the time at which it was written; ``time`` gives it, as RFC 3339 to the second.
    """

    def __init__(self, time: Callable[[], str]) -> None:
        self._time = time
        self._texts: dict[tuple[str, str], list[list[tuple[str, str]]]] = {}

    def start(self, pod: dict[str, Any], container: str) -> None:
        self._texts.setdefault((pod["metadata"]["uid"], container), []).append([])

    def write(self, pod: dict[str, Any], container: str, text: str) -> None:
        lines = [(self._time(), f"{line}\n") for line in text.splitlines()]
        self._texts[pod["metadata"]["uid"], container][-1] += lines

    def read(self, pod: dict[str, Any], query: dict[str, str]) -> str:
        if unknown := query.keys() - _SERVED:
            raise Refused(501, "", f"the double gives out no logs by {', '.join(sorted(unknown))}")
        container = _container(pod, query.get("container", ""))
        lines = self._lines(pod, container, previous=query.get("previous") in _TRUE)
        if "tailLines" in query:
            lines = lines[max(0, len(lines) - int(query["tailLines"])) :]
        stamped = query.get("timestamps") in _TRUE
        text = "".join(f"{time[:-1]}.000000000Z {line}" if stamped else line for time, line in lines)
        return text[: int(query["limitBytes"])] if "limitBytes" in query else text

    def _lines(self, pod: dict[str, Any], container: str, *, previous: bool) -> list[tuple[str, str]]:
        status, name = pod.get("status", {}), pod["metadata"]["name"]
        states = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        state = next((one["state"] for one in states if one["name"] == container), {"waiting": {}})
        texts = self._texts.get((pod["metadata"]["uid"], container), [])
        if previous:
            before = texts if "waiting" in state else texts[:-1]
            if not before:
                raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
            return before[-1]
        if texts:
            return texts[-1]
        if not pod["spec"].get("nodeName"):
            return []
        reason = state["waiting"].get("reason", "ContainerCreating")
        pulling = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
        doing = pulling.get(reason, reason)
        raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {doing}')


def _container(pod: dict[str, Any], asked: str) -> str:
    """Which one is meant; it must be said where there are several besides init containers."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    init, main = ([one["name"] for one in spec.get(group, ())] for group in ("initContainers", "containers"))
    if asked and asked not in {*init, *main}:
        raise bad_request(f"container {asked} is not valid for pod {name}")
    if not asked and len(main) > 1:
        said = f"a container name must be specified for pod {name}, choose one of: [{' '.join(main)}]"
        if init:
            said += f" or one of the init containers: [{' '.join(init)}]"
        raise bad_request(said)
    return asked or main[0]
