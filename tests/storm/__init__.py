"""Runs that are killed, stopped, starved of disk and damaged in random order, and what they lost."""
