"""A service that goes over to other models share by share; Azure ML has no name for it, so the names are ours."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from fleet.client.answers import Rollout
from fleet.client.rollout_view import ENDED
from fleet.client.sdk import cloud
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.exceptions import WebserviceException, told_as
from fleet.client.sdk.inference_config import InferenceConfig
from modules.names import slot_name

_ASK_AGAIN_S: Final = 1.0
_DONE: Final = "done"


class ServiceRollout:
    """A rollout of a service's requests to a new version, as :meth:`RollsOut.rollout` starts it.

    Every method raises:
        WebserviceException: the server refuses, or nothing is known of it any more.
    """

    def __init__(self, workspace: Connection, rollout: str) -> None:
        self.workspace, self.id = workspace, rollout

    def found(self) -> Rollout:
        """The rollout as it stands, with its shares and what was counted of them."""
        with told_as(WebserviceException), self.workspace.fleet() as fleet:
            return fleet.rollout(self.id)

    @property
    def state(self) -> str:
        """``running``, ``paused``, ``done``, ``failed``, ``cancelled``, ``reverted``, or what docs/rollouts.md has."""
        return self.found().state

    @property
    def version(self) -> str:
        """The new version's name at the service."""
        return self.found().version

    @property
    def percent(self) -> int:
        """The share of the requests that the new version has by the waves that are open."""
        one = self.found()
        return max((share.percent for share in one.shares if share.standing != "planned"), default=0)

    def wait_for_completion(self, show_output: bool = False) -> None:
        """Return once the new version has all requests; with ``show_output`` each step is printed.

        Raises:
            WebserviceException: it ended otherwise, or is paused and so waits for somebody; the message says why.
        """
        say: Callable[[str], None] = print if show_output else lambda _: None
        told = ""
        while (one := self.found()).state not in ENDED:
            line = f"rollout {one.id}: wave {one.wave} of {one.waves}. {one.waits_for}".strip()
            if line != told:
                say(line)
                told = line
            time.sleep(_ASK_AGAIN_S)  # HTTP has nothing to await; the server is asked once a second
        if one.state != _DONE:
            whys = [share.why for share in one.shares if share.why] or [each.what for each in one.history[-1:]]
            raise WebserviceException(
                f"the rollout is {one.state}: {'; '.join(whys)}",
                element=f"rollout {one.id}",
                remedy="see found().shares; then resume(), retry(), cancel() or revert()",
            )
        say(f"rollout {one.id} is done: {one.version} has all requests")

    def pause(self) -> None:
        """Open no further wave for now."""
        self._steer("pause")

    def resume(self) -> None:
        """Go on after a pause."""
        self._steer("resume")

    def approve(self) -> None:
        """Let the next wave open, where its policy asks for somebody's word."""
        self._steer("approve")

    def retry(self) -> None:
        """Give the version another try at the share at which it failed."""
        self._steer("retry")

    def cancel(self) -> None:
        """End it where it is: shares of complete waves stay."""
        self._steer("cancel")

    def revert(self) -> None:
        """Give all requests back to the version before."""
        self._steer("revert")

    def _steer(self, verb: str) -> None:
        with told_as(WebserviceException), self.workspace.fleet() as fleet:
            fleet.steer_rollout(self.id, verb)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(workspace={self.workspace.name}, id={self.id})"


class RollsOut(cloud.Service):
    """What lets a service go over to other models by waves and gates, where ``update`` does at once."""

    def rollout(
        self,
        models: Sequence[Any] | None = None,
        inference_config: InferenceConfig | None = None,
        *,
        version_name: str | None = None,
        num_replicas: int | None = None,
        percents: Sequence[float] | None = None,
        policy: dict[str, Any] | None = None,
        supersede: bool = False,
    ) -> ServiceRollout:
        """Start a controlled rollout; what is left out is as the default version has it.

        Args:
            models: what the new version serves.
            inference_config: with which script and environment.
            version_name: what it is called; v and its module's number.
            num_replicas: how many replicas it has.
            percents: of the requests that it has got with each wave, as ``[5, 25, 100]``.
            policy: as docs/rollouts.md has it, with the preset ``traffic`` beneath; ``percents`` take its waves' place.
            supersede: end one that is open.

        Raises:
            WebserviceException: nothing says what it serves, the service serves that already, or the server refuses.
        """
        if models is None and inference_config is None:
            raise WebserviceException(
                "nothing says what the new version serves",
                element=self.name,
                remedy="give models, an inference_config, or both",
            )
        one = self.found()
        with told_as(WebserviceException), self.workspace.fleet() as fleet:
            like = one.versions[one.default].module
            known = [model.known for model in models] if models is not None else self._models(fleet, like)
            waves = {} if percents is None else {"waves": [{"percent": float(share)} for share in percents]}
            request: dict[str, Any] = {
                "module": self._module(known, inference_config),
                "version": version_name,
                "replicas": num_replicas or 0,
                "supersede": supersede,
                "policy": {**(policy or {}), **waves},
            }
            started = fleet.start_rollout(request, endpoint=slot_name(self.name))
        return ServiceRollout(self.workspace, started.id)
