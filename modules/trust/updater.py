"""python-tuf's updater without the HTTP client that it imports and we never use: 2 MB of an agent's memory.

A stand-in takes that one module's place before python-tuf is asked for it. Who would use it by mistake is told so; if
python-tuf moves the module, nothing breaks, and the test of what an idle agent has loaded says that memory grew.
"""

import sys
from types import ModuleType
from typing import Final

_HTTP: Final = "tuf.ngclient.urllib3_fetcher"


class _NoHttp:
    def __init__(self, *_: object, **__: object) -> None:
        raise RuntimeError("trust metadata comes over edgefleet's own transport: give the updater a fetcher")


if _HTTP not in sys.modules:
    _stand_in = ModuleType(_HTTP)
    _stand_in.__dict__["Urllib3Fetcher"] = _NoHttp
    _NoHttp.__name__ = "Urllib3Fetcher"
    sys.modules[_HTTP] = _stand_in

from tuf.ngclient.config import UpdaterConfig  # noqa: E402 - after the stand-in has its place
from tuf.ngclient.fetcher import FetcherInterface  # noqa: E402 - likewise
from tuf.ngclient.updater import Updater  # noqa: E402 - likewise

__all__ = ["FetcherInterface", "Updater", "UpdaterConfig"]
