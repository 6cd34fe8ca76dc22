"""``edgefleet``, also as ``python -m fleet.client``."""

from fleet.client.cli import app
from modules.program import run


def main() -> None:
    app(prog_name="edgefleet")


if __name__ == "__main__":
    run("edgefleet", main)
