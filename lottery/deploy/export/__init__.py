"""Networks in files that other programs read, checked before they are there."""
