"""One file per vendor. Each has ``probe(system) -> Finding`` and looks at the machine through ``system`` alone."""
