"""A config to what a run will take of memory, disk and time."""
