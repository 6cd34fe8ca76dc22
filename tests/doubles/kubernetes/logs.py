"""What containers have written, as the kubelet gives it out: the present one's, and the previous one's."""

from typing import Any

from tests.doubles.kubernetes.refusals import Refused, bad_request

_TIME = "2026-01-01T00:00:00.000000000Z"
_SERVED = {"container", "limitBytes", "previous", "tailLines", "timestamps"}


class Logs:
    """Kept by pod and container; each start begins anew, and moves what was there to ``previous``."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, str], list[str]] = {}

    def start(self, pod: dict[str, Any], container: str) -> None:
        self._texts.setdefault((pod["metadata"]["uid"], container), []).append("")

    def write(self, pod: dict[str, Any], container: str, text: str) -> None:
        self._texts[pod["metadata"]["uid"], container][-1] += text if not text or text.endswith("\n") else text + "\n"

    def read(self, pod: dict[str, Any], query: dict[str, str]) -> str:
        if unknown := query.keys() - _SERVED:
            raise Refused(501, "", f"the double gives out no logs by {', '.join(sorted(unknown))}")
        text = self._text(
            pod, _container(pod, query.get("container", "")), previous=query.get("previous") in {"true", "1"}
        )
        if "tailLines" in query:
            lines = text.splitlines(keepends=True)
            text = "".join(lines[max(0, len(lines) - int(query["tailLines"])) :])
        if query.get("timestamps") in {"true", "1"}:
            text = "".join(f"{_TIME} {line}" for line in text.splitlines(keepends=True))
        return text[: int(query["limitBytes"])] if "limitBytes" in query else text

    def _text(self, pod: dict[str, Any], container: str, *, previous: bool) -> str:
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
            return ""
        reason = state["waiting"].get("reason", "ContainerCreating")
        pulling = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
        doing = pulling.get(reason, reason)
        raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {doing}')


def _container(pod: dict[str, Any], asked: str) -> str:
    """Which one is meant; it must be said where there are several."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    init, main = ([one["name"] for one in spec.get(group, ())] for group in ("initContainers", "containers"))
    if asked and asked not in {*init, *main}:
        raise bad_request(f"container {asked} is not valid for pod {name}")
    if not asked and len(init + main) > 1:
        said = f"a container name must be specified for pod {name}, choose one of: [{' '.join(main)}]"
        if init:
            said += f" or one of the init containers: [{' '.join(init)}]"
        raise bad_request(said)
    return asked or main[0]
