"""Sparse files: coded masks and surviving values. Sparse matrices: linear layers that compute with them."""
