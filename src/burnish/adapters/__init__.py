"""A model to a model with an adapter: made, saved, loaded, stacked, merged."""
