"""Ledger rows in, tables, CSV and JSON out. Pure: the CLI prints them, a web page may show them."""
