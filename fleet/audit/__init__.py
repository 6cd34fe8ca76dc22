"""The audit log: who did what to what, from where, and how it ended; rows that are only added, chained by hashes."""
