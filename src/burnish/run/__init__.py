"""What a run writes: its folder, journal, provenance and final model; trackers, interrupts, progress."""
