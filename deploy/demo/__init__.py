"""The whole system on one machine, from keys to a scored digit: ``make demo``."""
