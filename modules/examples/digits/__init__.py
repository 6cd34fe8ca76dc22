"""Handwritten digits: a small network served without code."""
