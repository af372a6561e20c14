"""Names to models, and models to logits. Knows tensors, no data and no templates."""
