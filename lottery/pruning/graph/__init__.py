"""What feeds what in a network."""
