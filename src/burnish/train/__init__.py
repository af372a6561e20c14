"""The training loop, with its optimizer, schedule, ranks and checkpoints."""
