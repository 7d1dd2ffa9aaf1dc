"""Model families: one file a model_type, from config.json to a ModelSpec."""
