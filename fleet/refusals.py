"""What the server refuses beyond the errors every part shares; the HTTP codes stand in ``fleet/errors.py`` alone.

::

    Refused (modules.errors)
    ├── Missing       there is no such device, module, blob or rollout
    ├── Conflict      it exists already with other content, or is in a state that forbids this
    │   ├── NameTaken     a device's name belongs to another key
    │   └── NameRemoved   it was a removed device's, and an operator has to agree
    ├── Unauthorised  no token, or one that does not hold
    │   ├── JoinExpired   a join bundle or claim after its time
    │   ├── JoinSpent     as many devices as it was for have joined, or wait for approval
    │   └── JoinRevoked   an operator took it back
    ├── Forbidden     the token holds, but its role may not do this
    │   ├── WrongName     the bundle is for another device
    │   └── KeyRejected   an operator does not let this key in
    ├── TooLarge      more bytes than the server takes
    └── TooMany       too many refused attempts of one address or operator; they have to wait

    Transient (modules.errors)
    ├── Busy          the server does as much of this at a time as it may
    └── TargetTrouble a container host or cluster does not answer, or refuses what an endpoint needs
"""

from typing import Final

from modules.errors import EdgefleetError, Refused, Transient

#: what others are told where a target cannot be used as it was attached
ATTACHED_WRONGLY: Final = "its target cannot be used as it was attached; who may administer targets sees why there"


class Missing(Refused):
    code = "missing"


class Conflict(Refused):
    code = "conflict"


class NameTaken(Conflict):
    code = "name-taken"


class NameRemoved(Conflict):
    code = "name-removed"


class Unauthorised(Refused):
    code = "unauthorised"


class JoinExpired(Unauthorised):
    code = "join-expired"


class JoinSpent(Unauthorised):
    code = "join-spent"


class JoinRevoked(Unauthorised):
    code = "join-revoked"


class Forbidden(Refused):
    code = "forbidden"


class WrongName(Forbidden):
    code = "wrong-name"


class KeyRejected(Forbidden):
    code = "key-rejected"


class TooLarge(Refused):
    code = "too-large"


class TooMany(Refused):
    code = "too-many"
    wait_s = 60.0


class Busy(Transient):
    code = "busy"
    wait_s = 5.0


class TargetTrouble(Transient):
    """``hidden`` are words that may name addresses: ``str`` has them, for whoever may administer targets."""

    code = "target-trouble"

    def __init__(self, message: str, *, element: str = "", remedy: str = "", hidden: str = "") -> None:
        super().__init__(message, element=element, remedy=remedy)
        self.hidden = hidden

    def __str__(self) -> str:
        return f"{super().__str__()}: {self.hidden}" if self.hidden else super().__str__()

    @property
    def whole(self) -> "TargetTrouble":
        """The same with those words in its message."""
        message = f"{self.message}: {self.hidden}" if self.hidden else self.message
        return TargetTrouble(message, element=self.element, remedy=self.remedy)


def told(error: EdgefleetError) -> str:
    """An error as everybody may read it who may see what lives on a target."""
    return EdgefleetError.__str__(error)
