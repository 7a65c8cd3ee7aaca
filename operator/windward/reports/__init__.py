"""Ledger rows in, documents out. Pure."""
