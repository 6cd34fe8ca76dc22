"""Where the secrets of this device's instances are; what opens and writes them is loaded for the first one."""

import importlib
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from modules.errors import NeedsOperator, Untrusted
from modules.names import DeviceId
from modules.protocol.order import Secret


class SecretFiles:
    """One folder for each instance, below ``root``, which must lie in memory; ``identity`` has the device's key."""

    def __init__(self, root: Path, identity: Path, device: DeviceId) -> None:
        self._root, self._identity, self._device = root, identity, device

    def folder(self, number: str) -> Path:
        """The folder of the instance with this number."""
        return self._root / number

    def write(self, number: str, slot: str, secrets: Mapping[str, Secret], *, group: int) -> None:
        """Open these secrets and make them, and no others, the files of the instance. Blocking.

        Raises:
            NeedsOperator: one is not sealed to this device, for this slot and name, or there is no memory to write to;
                that is no fault of the module's, and nothing was written.
            BadSettings: the device's key is damaged.
        """
        files = importlib.import_module("agent.secret_files")
        try:
            opened = files.opened(self._identity, self._device, slot, secrets)
        except Untrusted as error:
            raise NeedsOperator(error.message, element=error.element, remedy=error.remedy) from error
        files.write(self.folder(number), opened, group=group)

    def clear(self, number: str) -> None:
        """Remove what an ended instance was given."""
        if (folder := self.folder(number)).exists():
            shutil.rmtree(folder)

    def clear_others(self, kept: Collection[str]) -> None:
        """Remove what all but these were given."""
        for folder in self._root.glob("*"):
            if folder.name not in kept:
                self.clear(folder.name)
