"""What goes: amounts, scopes, scores and structures, and what feeds what in a network."""
