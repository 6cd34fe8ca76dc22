"""``edgefleet``, also as ``python -m fleet.client``."""

from fleet.client.cli import app
from modules.program import run, unwind


def main() -> None:
    unwind()
    app(prog_name="edgefleet")


if __name__ == "__main__":
    run("edgefleet", main)
