"""A config to a run, each recipe to be read in one sitting."""
