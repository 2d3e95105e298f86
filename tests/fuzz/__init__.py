"""Attacks on files, downloads and runs: ``python -m tests.fuzz``, before a release."""
