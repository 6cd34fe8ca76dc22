"""What `make screenshots` looks at."""

from fleet.console import mount
from tests.screenshots.__main__ import sights
from tests.screenshots.showcase import Named


def test_every_page_of_the_console_is_looked_at():
    """A page that is added is among them by itself, or is refused here until it is said how it is reached."""
    found = sights(Named(**{one: f"some-{one}" for one in Named._fields}))

    assert len(found) == len(mount.load())
    assert len({one.name for one in found}) == len(found)
    assert not [one.address for one in found if "{" in one.address]
