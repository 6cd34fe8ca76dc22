"""Graphs by the digest of their file: each is read once, one at a time, and remembered while it is asked for."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final

from fleet.graphs.graph import Graph
from fleet.graphs.onnx_file import read
from modules.names import Digest

_KNOWN: Final = 64


class Graphs:
    """From any thread. A look takes a second at most, so they wait for each other."""

    def __init__(self) -> None:
        self._known: OrderedDict[Digest, Graph] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, name: Digest, file: Path) -> Graph:
        """What is in a file that has this digest.

        Raises:
            FileNotFoundError: it is not there any more.
        """
        with self._lock:
            if (known := self._known.get(name)) is None:
                known = self._known[name] = read(file)
                while len(self._known) > _KNOWN:
                    self._known.popitem(last=False)
            self._known.move_to_end(name)
            return known
