"""Measurements that compare."""
