"""Benchmarks: each prints a table and, with --json, its rows. They compare in one run, interleaved, and assert nothing."""
