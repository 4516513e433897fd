"""Tickets: a mask and the weights to start it from, and their files."""
