"""Mutation tests: small faults are planted in the source one by one, and the room's tests must notice each of them.

``python -m tests.mutants --seed 1 --count 60``; which files and which tests is written in ``table.toml``.
"""
