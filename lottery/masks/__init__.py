"""Masks: named boolean tensors, which weights there are to prune, and exactly k of n."""
