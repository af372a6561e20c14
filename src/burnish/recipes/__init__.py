"""Configs to runs, each recipe to be read in one sitting."""
