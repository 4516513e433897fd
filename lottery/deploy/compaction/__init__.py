"""Makes a baked module physically smaller, with exactly the same outputs."""
