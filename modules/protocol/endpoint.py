"""What the fleet server and the gateway of an endpoint say to each other, through the gateway's folder.

The server puts files into ``next/`` there and runs ``python -m agent.gateway.ask``, which takes them into use and
answers with one :class:`Said`.
"""

from typing import Annotated, Final

import msgspec

from modules.bounds import Count, Line, Sentence
from modules.counted import Counted, Looked
from modules.names import DigestField
from modules.protocol.routing import Replica, Table

#: in the gateway's folder: what is new, until it is taken
NEXT: Final = "next"
TABLE: Final = "table.json"
KEYS: Final = "keys.json"
CERTIFICATE: Final = "tls.pem"
CERTIFICATE_KEY: Final = "tls.key"
CANDIDATES: Final = "candidates.json"

MAX_REPLICAS: Final = 256
MAX_FILES: Final = 64
_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9.-]{0,200}\Z")]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A replica to look at, whether it is asked by clients yet or not.

    ``samples`` is the file, in the gateway's folder, that it must answer rightly once; empty: it is unproved. It may
    take ``within_s`` seconds for each.
    """

    replica: Replica
    samples: _Name = ""
    within_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 30.0


class Candidates(msgspec.Struct, frozen=True, kw_only=True):
    """All replicas of an endpoint."""

    replicas: Annotated[tuple[Candidate, ...], msgspec.Meta(max_length=MAX_REPLICAS)] = ()


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One replica as the gateway sees it: ready (and proved), or why it is not; ``wrong``: its answers are.

    ``answers`` is what its server says of all that it has answered; None: nothing.
    """

    ready: bool
    provider: Line = ""
    why: Sentence = ""
    wrong: bool = False
    answers: Looked | None = None


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands: which table is in use (None: none, or the gateway does not answer), and each replica by name.

    ``table`` is the one in the folder, which is in use once its generation is. ``files`` are those in the
    folder, by their sha256. ``counts`` are what the gateway has counted of each replica that it asked for a client,
    since it began; None: it does not say, as one of before.
    """

    generation: Count | None = None
    table: Table | None = None
    replicas: Annotated[dict[_Name, Found], msgspec.Meta(max_length=MAX_REPLICAS)] = {}
    files: Annotated[dict[_Name, DigestField], msgspec.Meta(max_length=MAX_FILES)] = {}
    counts: Annotated[dict[_Name, Counted], msgspec.Meta(max_length=MAX_REPLICAS)] | None = None
