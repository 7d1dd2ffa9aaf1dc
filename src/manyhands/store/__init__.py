"""Everything on disk: checkpoints and tokenizers."""
