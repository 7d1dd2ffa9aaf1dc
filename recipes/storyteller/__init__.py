"""The storyteller: stories from a grammar, and a small model trained on them."""
