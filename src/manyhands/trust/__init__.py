"""Signatures, membership and, later, receipts, checks, standing: pure."""
