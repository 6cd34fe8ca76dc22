"""The application of tests/fleet/people, with a target that nobody answers at."""

import pytest
from sqlalchemy import insert

from fleet.target_tables import targets
from tests.doubles.fleet_rows import SmallFleet
from tests.fleet.people.conftest import house, made, passwords, refused_fixture

__all__ = ["house", "made", "passwords", "refused_fixture"]


@pytest.fixture
async def cloud(house):
    """A house with two signed modules of one team, and a target whose engine does not answer."""
    house.fleet = SmallFleet(house.folder.root, house.database)
    house.refs = [str(house.fleet.add_module("digits")), str(house.fleet.add_module("digits"))]
    row = {"name": "lab", "kind": "container", "attached": '{"docker": "unix:///nonexistent.sock"}', "created": 0.0}
    with house.database.write() as connection:
        connection.execute(insert(targets).values(**row))
    return house
