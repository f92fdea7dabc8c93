"""Benchmarks: each module is a command, `python -m bench.NAME [--out FILE.json]`; a table on screen, JSON in a file."""
