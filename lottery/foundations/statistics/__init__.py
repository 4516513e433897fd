"""Means, paired differences and families of claims: arithmetic on arrays, without words."""
