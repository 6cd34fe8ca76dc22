"""The names of the commands."""

import pytest
import typer

from fleet.client.cli import app


def apps(of, path="edgefleet"):
    yield path, of
    for one in of.registered_groups:
        yield from apps(one.typer_instance, f"{path} {one.name or one.typer_instance.info.name}")


@pytest.mark.parametrize(("path", "of"), [pytest.param(*one, id=one[0]) for one in apps(app)])
def test_no_command_shadows_another(path, of):
    """The later of two of one name would be all that there is, and say nothing of the other's options."""
    assert isinstance(of, typer.Typer)
    names = [one.name or one.callback.__name__.replace("_", "-") for one in of.registered_commands]
    assert sorted(names) == sorted(set(names)), path
