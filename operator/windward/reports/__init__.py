"""Ledger rows and studies in, tables, CSV, JSON and HTML out. Pure: the CLI prints them, a web page may show them."""
