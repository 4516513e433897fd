"""Values that everything stands on: steps, random streams, names of weights, registries."""
