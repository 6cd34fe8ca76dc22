"""Services found by what scripts know of them, told as JSON and found again, and their tags; for ``Webservice``."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from fleet.client.sdk.exceptions import UserErrorException
from fleet.client.sdk.model_version import ModelVersion
from fleet.client.sdk.registry import Filter, has


class Known(Protocol):
    """What every service says of itself."""

    compute_type: str

    @property
    def tags(self) -> dict[str, str]: ...
    @property
    def properties(self) -> dict[str, str]: ...
    @property
    def models(self) -> Sequence[ModelVersion]: ...


S = TypeVar("S", bound=Known)


class Wanted:
    """What ``Webservice.list`` is asked for.

    Raises:
        UserErrorException: a filter by image, which services here are not told apart by.
    """

    def __init__(
        self,
        compute_type: str | None = None,
        image_name: str | None = None,
        image_digest: str | None = None,
        model_name: str | None = None,
        model_id: str | None = None,
        tags: Filter = None,
        properties: Filter = None,
    ) -> None:
        if image_name is not None or image_digest is not None:
            raise UserErrorException(
                "services are not found by their image here",
                element="image_name, image_digest",
                remedy="find them by model_name or model_id",
            )
        self._kind, self._model_name, self._model_id = (compute_type or "").lower(), model_name, model_id
        self._tags, self._properties = tags, properties

    def among(self, found: Iterable[S]) -> list[S]:
        """Those that are wanted."""
        return [one for one in found if self._wants(one)]

    def _wants(self, one: Known) -> bool:
        if self._kind not in {"", one.compute_type.lower()}:
            return False
        if self._tags and not has(one.tags, self._tags, what="tags"):
            return False
        if self._properties and not has(one.properties, self._properties, what="properties"):
            return False
        if self._model_name is None and self._model_id is None:
            return True
        return any(
            self._model_name in {None, model.name} and self._model_id in {None, model.id} for model in one.models
        )


def name_in(payload: Any) -> str:
    """The service that ``serialize`` told of.

    Raises:
        UserErrorException: it told of none.
    """
    found = payload.get("name") if isinstance(payload, dict) else None
    if not isinstance(found, str):
        raise UserErrorException(
            "this is no service's", element="webservice_payload", remedy="give what serialize() returned"
        )
    return found


class Changing(Protocol):
    """A service whose tags and properties can be changed."""

    @property
    def tags(self) -> dict[str, str]: ...
    @property
    def properties(self) -> dict[str, str]: ...
    def update(self, **changes: Any) -> None: ...


class ServiceWords:
    """What scripts write on a service, a few at a time; nothing of what serves is touched."""

    def add_tags(self: Changing, tags: Mapping[str, Any]) -> None:
        """Add tags, or change those that are there."""
        self.update(tags=self.tags | {str(name): str(value) for name, value in tags.items()})

    def remove_tags(self: Changing, tags: Sequence[str] | str) -> None:
        """Take tags away; one that is not there is no error."""
        gone = {tags} if isinstance(tags, str) else set(tags)
        self.update(tags={name: value for name, value in self.tags.items() if name not in gone})

    def add_properties(self: Changing, properties: Mapping[str, Any]) -> None:
        """Add properties; as in Azure ML one that is there never changes.

        Raises:
            UserErrorException: one is there with another value.
        """
        known = self.properties
        for name, value in properties.items():
            if known.get(str(name), str(value)) != str(value):
                raise UserErrorException(
                    "a property never changes", element=str(name), remedy="add one of another name, or use a tag"
                )
        self.update(properties=known | {str(name): str(value) for name, value in properties.items()})
