"""Strikes an agent on the workbench at one named point: at a write, or at a side effect, of one of its steps.

A point's name is ``phase step effect #n``: what the slot's row says, which step is taken, what it does, and which time
that is. It dies after it; it fails or hangs before it. Nothing that a dead agent still tries is done. Any other ``way``
is a function of the device, called before it: what happens around the agent just then.
"""

import asyncio
import errno
import os
import threading
from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from agent import socket_folder
from agent.gateway import table as gateway_table
from modules.errors import EngineBusy, NoSpace

ENGINE = ("start", "stop", "hang_up", "load_image", "keep_image", "let_go_images")
FILES = (("shelf", "lay_out"), ("shelf", "prune"), ("blobs", "finish"), ("blobs", "prune"))
FUNCTIONS = ((gateway_table, "write"), (socket_folder, "make"), (socket_folder, "seal"), (socket_folder, "clear"))
# Done to the files of an instance's secrets, which lie in a folder that only some devices have.
SECRETS = ((os, "open"), (Path, "replace"), (Path, "unlink"))
# What does something outside a step of a slot.
_OTHERS = {"replace": "Adopt", "_resume": "Resume", "_tidy": "Tidy"}
_step: ContextVar[str] = ContextVar("step", default="")


class Dead(BaseException):
    """The agent was killed here."""


class Crashing:
    """Names the points that the agent of ``device`` passes, and strikes at ``at``, in this way."""

    def __init__(self, device, patch, *, at="", way="dies") -> None:
        self.device = device
        self.passed: list[str] = []
        self.struck = False
        self.dead = False
        self._counts: Counter[str] = Counter()
        self._at, self._way = at, way
        self._lock = threading.Lock()
        self._over = threading.Event()
        for name in ENGINE:
            patch.setattr(device.engine, name, self._call(f"engine.{name}", getattr(device.engine, name)))
        for owner, name in FUNCTIONS:
            what = f"{owner.__name__.rpartition('.')[2]}.{name}"
            patch.setattr(owner, name, self._function(what, getattr(owner, name)))
        for part, name in FILES:
            owner = getattr(device, part)
            patch.setattr(owner, name, self._function(f"{part}.{name}", getattr(owner, name)))
        for owner, name in SECRETS if hasattr(device, "secrets") else ():
            patch.setattr(owner, name, self._secret(f"secrets.{name}", getattr(owner, name)))
        patch.setattr(device.store, "together", self._together(device.store.together))
        patch.setattr(device.store, "close", self._closed(device.store.close))
        patch.setattr(device.executor, "_arm", self._arm(device.executor._arm))
        for name, step in _OTHERS.items():
            patch.setattr(device.loop, name, self._within(step, getattr(device.loop, name)))

    def _is_point(self, effect: str) -> bool:
        """Name the point that is reached, unless nobody is at work for the slot; whether it is the one to strike at."""
        with self._lock:
            if self.dead:
                raise Dead
            if not (step := _step.get()):
                return False
            row = self.device.store.slot("main")
            name = f"{row.phase if row else 'none'} {step} {effect}"
            self._counts[name] += 1
            name = f"{name} #{self._counts[name]}"
            self.passed.append(name)
        if name != self._at:
            return False
        self.struck = True
        if callable(self._way):
            self._way(self.device)
        return True

    def _closed(self, close):
        """A thread that outlives the agent may not read the database that is closed under it."""

        def closed():
            with self._lock:
                self.dead = True
                close()

        return closed

    def _fails(self, here, error) -> None:
        if here and self._way == "fails":
            raise error

    def _dies(self, here) -> None:
        if here and self._way == "dies":
            self.dead = True
        if self.dead:
            raise Dead

    def _call(self, effect, call):
        async def called(*arguments, **more):
            here = self._is_point(effect)
            self._fails(here, EngineBusy("busy for once"))
            if here and self._way == "hangs":
                await asyncio.Event().wait()
            result = await call(*arguments, **more)
            self._dies(here)
            return result

        return called

    def _secret(self, effect, function):
        """As another function, where it is done to a secret's file; it may hang in its thread until the end."""
        struck = self._function(effect, function)

        def called(path, *arguments, **more):
            parts = Path(path).parts if isinstance(path, str | Path) else ()
            if "secrets" not in parts or (effect == "secrets.open" and not arguments[0] & os.O_CREAT):
                return function(path, *arguments, **more)
            return struck(path, *arguments, **more)

        return called

    def release(self) -> None:
        """The agent is dead: what hangs in a thread of it ends."""
        self._over.set()

    def _function(self, effect, function):
        def called(*arguments, **more):
            here = self._is_point(effect)
            self._fails(here, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            if here and self._way == "hangs":
                self._over.wait()
                raise Dead
            result = function(*arguments, **more)
            self._dies(here)
            return result

        return called

    def _together(self, together):
        @contextmanager
        def written():
            if self.device.store._db.in_transaction:
                yield
                return
            here = self._is_point("write")
            self._fails(here, NoSpace("full for once"))
            with together():
                yield
            self._dies(here)

        return written

    def _arm(self, arm):
        async def taken(step):
            _step.set(type(step).__name__)
            await arm(step)

        return taken

    def _within(self, name, call):
        if asyncio.iscoroutinefunction(call):

            async def awaited(*arguments):
                token = _step.set(name)
                try:
                    return await call(*arguments)
                finally:
                    _step.reset(token)

            return awaited

        def called(*arguments):
            token = _step.set(name)
            try:
                return call(*arguments)
            finally:
                _step.reset(token)

        return called
