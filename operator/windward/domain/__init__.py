"""Values that every room shares: frozen, unit-named, aware UTC; no IO, no clock of their own."""
