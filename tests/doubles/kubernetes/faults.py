"""What goes wrong on demand: answers of a server in trouble, and connections that break or hang."""

import threading
from typing import Any

import msgspec

from tests.doubles.kubernetes.refusals import Refused


class Fault(msgspec.Struct):
    """``method`` and ``path`` (a part of it) choose requests; ``times`` of them are met, -1 for all."""

    do: str
    method: str = ""
    path: str = ""
    times: int = 1
    seconds: float = 0.0
    code: int = 500
    message: str = "Internal error occurred: etcdserver: request timed out"
    after: bool = False


class Faults:
    """The first that fits a request is taken; ``met`` is how many requests were. ``after`` does what was asked, and
    then breaks off."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self._lock = threading.Lock()
        self.over = threading.Event()
        self.met = 0

    def fail(self, code: int = 500, **chosen: Any) -> None:
        """An answer with this code: 500, 502, 503, 504."""
        self._add(Fault("fail", code=code, **chosen))

    def throttle(self, seconds: int = 1, **chosen: Any) -> None:
        """429 with Retry-After."""
        self._add(Fault("throttle", seconds=seconds, **chosen))

    def reset(self, **chosen: Any) -> None:
        """The connection is reset; with ``after=True`` what was asked has been done all the same."""
        self._add(Fault("reset", **chosen))

    def hang(self, **chosen: Any) -> None:
        """No answer, until the client gives up or the double ends."""
        self._add(Fault("hang", **chosen))

    def slow(self, seconds: float, **chosen: Any) -> None:
        """An answer that takes so long."""
        self._add(Fault("slow", seconds=seconds, **chosen))

    def expire_watches(self, **chosen: Any) -> None:
        """The next watch is told that its version is too old, whatever it is."""
        self._add(Fault("expire", **({"path": "watch="} | chosen)))

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def _add(self, fault: Fault) -> None:
        with self._lock:
            self._waiting.append(fault)

    def meet(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._waiting:
                if fault.method in {"", method} and fault.path in path:
                    self.met += 1
                    fault.times -= 1
                    if not fault.times:
                        self._waiting.remove(fault)
                    return fault
        return None


_REASONS = {500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}


def answer(fault: Fault) -> Refused:
    """What a fault with an answer says."""
    if fault.do == "throttle":
        refused = Refused(
            429,
            "TooManyRequests",
            "Too many requests, please try again later.",
            {"retryAfterSeconds": int(fault.seconds)},
        )
        refused.headers["Retry-After"] = str(int(fault.seconds))
        return refused
    return Refused(fault.code, _REASONS.get(fault.code, ""), fault.message)
