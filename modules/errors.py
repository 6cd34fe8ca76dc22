"""Every error edgefleet raises on purpose, as a tree whose branches say what to do about it.

::

    EdgefleetError
    ├── Transient          wait and try again; nothing is wrong with what was asked
    │   ├── LinkLost           the broker or the fleet server cannot be reached
    │   ├── TransferStalled    blocks stopped coming, or kept coming wrong
    │   └── EngineBusy         the container engine did not answer in time
    ├── Refused            this content will never be accepted; remember it and say why
    │   ├── Untrusted          a signature, digest, version or expiry does not hold
    │   ├── Invalid            it is not what it claims to be (manifest, model, document, bundle)
    │   └── Unfit              this host cannot run it
    ├── Unproved           it ran, and was wrong: give the traffic back to what worked
    │   ├── NotReady           it did not start, or not in time
    │   ├── WrongAnswer        a sample's answer differs from the reference
    │   └── OverLimit          latency, memory or provider outside the manifest's limits
    └── NeedsOperator      a person must change something before trying again helps
        ├── NoEngine           no container engine answers, or it refuses us
        ├── NoSpace            the disk cannot hold what was ordered
        └── BadSettings        this program's own configuration

A message reads as one sentence for the operator: what, where, and what to do. ``phase`` is the state-machine phase or
the command in which it happened, ``element`` the file, field, slot or address it is about.
"""


class EdgefleetError(Exception):
    """Root of the tree; never raised itself.

    Args:
        message: what is wrong, in one sentence without a full stop.
        element: the file, field, slot or address it is about.
        remedy: what to do about it, as an instruction.
    """

    code: str = "error"
    retry: bool = False

    def __init__(self, message: str, *, element: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.element = element
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.element}: " if self.element else ""
        what_to_do = f" ({self.remedy})" if self.remedy else ""
        return f"{where}{self.message}{what_to_do}"


class Transient(EdgefleetError):
    code = "transient"
    retry = True


class LinkLost(Transient):
    code = "link-lost"


class TransferStalled(Transient):
    code = "transfer-stalled"


class EngineBusy(Transient):
    code = "engine-busy"


class Refused(EdgefleetError):
    code = "refused"


class Untrusted(Refused):
    code = "untrusted"


class Invalid(Refused):
    code = "invalid"


class Unfit(Refused):
    code = "unfit"


class Unproved(EdgefleetError):
    code = "unproved"


class NotReady(Unproved):
    code = "not-ready"


class WrongAnswer(Unproved):
    code = "wrong-answer"


class OverLimit(Unproved):
    code = "over-limit"


class NeedsOperator(EdgefleetError):
    code = "needs-operator"


class NoEngine(NeedsOperator):
    code = "no-engine"


class NoSpace(NeedsOperator):
    code = "no-space"


class BadSettings(NeedsOperator):
    code = "bad-settings"
