"""``python -m tests.parts.moved.server serve``: the fleet server, which looks after certificates more often."""

import sys

from fleet import upkeep
from fleet.__main__ import main

LOOK_S = 0.25

if __name__ == "__main__":
    upkeep.EVERY_S = LOOK_S
    sys.exit(main())
