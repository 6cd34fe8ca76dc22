import pytest

from tests.agent.telemetry.stand import Stand


@pytest.fixture
def stand(folder):
    made = []

    def make(**settings):
        made.append(Stand(folder, **settings))
        return made[-1]

    yield make
    for one in made:
        one.store.close()
