"""Modules to try things out with: a digits classifier without code, and a file-type detector with an entry script."""
