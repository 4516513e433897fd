"""The loop: train, prune, rewind, again, inside one `Trainer.fit`."""
