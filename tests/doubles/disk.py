"""What reaches the disk, and in which order: every fsync and every rename, as whoever loses power would find them."""

import os
from pathlib import Path


class Disk:
    """Watches this process; what it watches is done as well. ``happened`` has ``("sync", path)`` and
    ``("name", old, new)`` in order.
    """

    def __init__(self, monkeypatch) -> None:
        self.happened: list[tuple[str, ...]] = []
        sync, replace = os.fsync, os.replace

        def synced(descriptor) -> None:
            number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
            self.happened.append(("sync", str(Path(f"/proc/self/fd/{number}").readlink())))
            sync(descriptor)

        def named(old, new, **more) -> None:
            replace(old, new, **more)
            self.happened.append(("name", str(old), str(new)))

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "replace", named)

    def synced(self, path) -> bool:
        """Whether the file's bytes were on the disk when it got this name, or since."""
        names = [str(path)]
        for what in reversed(self.happened):
            if what[0] == "name" and what[2] in names:
                names = [what[1]]
            elif what[0] == "sync" and what[1] in names:
                return True
        return False

    def lasts(self, path) -> bool:
        """Whether the name itself is on the disk: its folder was synced after it was given."""
        given = [at for at, what in enumerate(self.happened) if what[0] == "name" and what[2] == str(path)]
        return bool(given) and ("sync", str(Path(path).parent)) in self.happened[given[-1] :]
