"""Measurements against peers, run as scripts."""
