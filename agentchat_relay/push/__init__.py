"""Committed events on their way to those who wait for them."""
