"""``edgefleet``, also as ``python -m fleet.client``."""

from fleet.client.cli import app


def main() -> None:
    app(prog_name="edgefleet")


if __name__ == "__main__":
    main()
