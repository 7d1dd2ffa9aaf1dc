"""Signatures and, later, receipts, checks, standing: pure."""
