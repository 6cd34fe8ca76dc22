"""What the server refuses beyond the errors every part shares; the HTTP codes stand in ``fleet/errors.py`` alone.

::

    Refused (modules.errors)
    ├── Missing       there is no such device, module, blob or rollout
    ├── Conflict      it exists already with other content, or is in a state that forbids this
    ├── Unauthorised  no token, or one that does not hold
    ├── Forbidden     the token holds, but its role may not do this
    ├── TooLarge      more bytes than the server takes
    └── TooMany       too many refused attempts of one address or operator; they have to wait

    Transient (modules.errors)
    └── Busy          the server does as much of this at a time as it may
"""

from modules.errors import Refused, Transient


class Missing(Refused):
    code = "missing"


class Conflict(Refused):
    code = "conflict"


class Unauthorised(Refused):
    code = "unauthorised"


class Forbidden(Refused):
    code = "forbidden"


class TooLarge(Refused):
    code = "too-large"


class TooMany(Refused):
    code = "too-many"
    wait_s = 60.0


class Busy(Transient):
    code = "busy"
    wait_s = 5.0
