"""The tables over time: one numbered revision per change, run by ``fleet.db.Database.migrate``."""
