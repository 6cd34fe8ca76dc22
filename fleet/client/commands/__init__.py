"""One file per noun; each holds ``app``, a typer application that :mod:`fleet.client.cli` loads when it is called."""
