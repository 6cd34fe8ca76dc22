"""What each row stands on: a scene of its file's own."""

from pathlib import Path

import pytest

from tests.attacks.scene import scene as made


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.needs("mosquitto"))
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="module")
def scene():
    with made() as one:
        yield one
