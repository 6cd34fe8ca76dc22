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

from modules.errors import Refused, Transient


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
    code = "target-trouble"
