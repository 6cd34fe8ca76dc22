"""When this device renews its certificate: at two thirds of its life or sooner, by the time that it believes.

The clock of a device lies: it is not set, or set wrong and set right later. So a renewal is not repeated before a
quarter of a life has passed by the same clock, whatever the dates say; and where the clock is certainly wrong, half a
life of running counts. What renews (agent/renewal.py) is loaded when it is due.
"""

import contextlib
import importlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from agent import identity as identities
from agent.certificate_dates import Dates, dates
from agent.clock import Clock, backoff
from agent.identity import ASIDE
from agent.inbox import Refuse
from agent.link import Link
from agent.store import Store
from modules.certificate_life import due_at
from modules.errors import EdgefleetError, NeedsOperator
from modules.names import DeviceId

_log = logging.getLogger(__name__)
RENEWED: Final = "renewed"
_LONGEST_LOOK_S: Final = 3600.0
# Of a life: how often one looks, how soon the next renewal may be, and how long a clock that is not set is borne.
_LOOKS: Final = 1 / 50
_NOT_AGAIN: Final = 1 / 4
_WITHOUT_CLOCK: Final = 1 / 2
_DAY_S: Final = 86_400.0
_OFFLINE_S: Final = 5.0
_FIRST_WAIT_S: Final = 60.0
_LONGEST_WAIT_S: Final = 6 * 3600.0


class RenewalDue:
    """A duty of the agent; ``renew`` does it now, whenever it is due.

    ``believed`` is the time that the device believes, in Unix seconds; ``told`` are called when the device is known by
    another pair, ``refuse`` remembers for the next report what was not taken, and ``parts`` are what
    :class:`agent.renewal.Renewal` needs besides.
    """

    def __init__(
        self,
        *,
        device: DeviceId,
        folder: Path,
        store: Store,
        clock: Clock,
        believed: Callable[[], float],
        link: Link,
        refuse: Refuse,
        told: Sequence[Callable[[], None]] = (),
        **parts: Any,
    ) -> None:
        self._device, self._folder, self._store, self._clock = device, folder, store, clock
        self._believed, self._told, self._parts = believed, told, parts
        self._parts["link"] = self._link = link
        link.on_renewed, link.is_ours = self.on_promoted, self.is_ours
        self._since = clock.monotonic()
        self._refuse = refuse
        self._pair: Any = None
        self._renewal: Any = None

    async def run(self) -> None:
        """Look and renew for ever; what fails is tried again, ever more seldom."""
        failures = 0
        identities.tidy(self._folder)
        while True:
            wait = _LONGEST_LOOK_S
            try:
                life = dates(identities.present(self._folder).certificate.read_bytes())
                wait = min(wait, _LOOKS * (life.ends - life.begins))
                # A renewal that was interrupted is finished first, by whatever dates.
                if self._is_begun or self.is_due(life):
                    wait = await self._renew_connected(wait)
                failures = 0
            except (EdgefleetError, OSError, ValueError) as error:
                failures += 1
                wait = backoff(failures, first_s=_FIRST_WAIT_S, most_s=_LONGEST_WAIT_S)
                _log.warning("the certificate is not renewed yet, the next try is in %.0f s: %s", wait, error)
            await self._clock.sleep(wait)

    @property
    def _is_begun(self) -> bool:
        return bool(identities.upcoming(self._folder)) or (self._folder / ASIDE).exists()

    async def _renew_connected(self, wait: float) -> float:
        """Renew, or come again soon where there is no session just now; when to come again, in seconds."""
        if not self._link.connected:
            return min(wait, _OFFLINE_S)
        await self.renew()
        return wait

    def is_due(self, life: Dates) -> bool:
        """Whether a certificate with these dates is to be renewed now."""
        now, whole, last = self._believed(), life.ends - life.begins, self._store.number(RENEWED)
        if last and abs(now - last) < _NOT_AGAIN * whole:
            return False
        if now < life.begins - _DAY_S:  # the server that made it knew better
            return self._clock.monotonic() - self._since >= _WITHOUT_CLOCK * whole
        return now >= due_at(life.begins, life.ends, self._device)

    async def renew(self) -> str:
        """Renew now; returns the new certificate's number in hexadecimal.

        Raises:
            LinkLost: no answer came, or the broker was not reached with the new certificate; to be tried again.
            Refused: the server refuses, or the answer is not what was asked for.
            NoSpace: the new key or certificate cannot be written.
        """
        serial: str = await self._loaded().renew()
        with contextlib.suppress(OSError):
            (self._folder / ASIDE).unlink(missing_ok=True)
        try:
            self._store.keep_number(RENEWED, self._believed())
        except NeedsOperator as error:
            _log.warning("when the certificate was renewed is not kept: %s", error)
        self._since = self._clock.monotonic()
        return serial

    def on_answer(self, payload: bytes) -> None:
        """What came at ``down/enroll``; nothing where nothing was asked."""
        if self._renewal is not None:
            self._renewal.on_answer(payload)

    def on_promoted(self) -> None:
        """The broker let the device in with its next certificate, which is the present one now."""
        for tell in self._told:
            try:
                tell()
            except (EdgefleetError, OSError) as error:
                _log.warning("somebody does not know of the renewed certificate yet: %s", error)
        if self._renewal is not None:
            self._renewal.on_promoted()

    def is_ours(self) -> bool:
        """Whether the next pair on this disk may be used; one that is not this device's is set aside now."""
        try:
            return self._checking().found() is not None
        except OSError as error:
            _log.warning("the next certificate cannot be used yet: %s", error)
            return False

    def _checking(self) -> Any:
        if self._pair is None:
            module = importlib.import_module("agent.next_pair")
            self._pair = module.NextPair(
                device=self._device, folder=self._folder, believed=self._believed, refuse=self._refuse
            )
        return self._pair

    def _loaded(self) -> Any:
        if self._renewal is None:
            module = importlib.import_module("agent.renewal")
            self._renewal = module.Renewal(
                device=self._device, folder=self._folder, pair=self._checking(), **self._parts
            )
        return self._renewal
