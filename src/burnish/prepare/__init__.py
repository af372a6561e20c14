"""A config to token tables with a ledger, and to the model to train; ``check`` and ``show`` of the rows."""
