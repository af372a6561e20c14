"""The command line: one file a verb, drawing and no logic."""
