"""The fleet's data as plain tables, for whoever analyses it: what the tables are, their rows, and pages of them."""
