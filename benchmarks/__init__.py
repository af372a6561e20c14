"""Measurements of burnish and its peers. Nothing in the package imports from here."""
