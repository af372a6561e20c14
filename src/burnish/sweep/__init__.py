"""Combinations of settings to runs, and what they gave side by side: a table and a page."""
