"""Whole swarms of the real node code on virtual time."""
