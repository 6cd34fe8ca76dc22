"""The address that the docs give for ``Environment``; its room is :mod:`fleet.client.environments`."""

from fleet.client.environments.environment import Environment

__all__ = ["Environment"]
