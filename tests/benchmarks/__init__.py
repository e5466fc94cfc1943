"""Measurements of speed, memory and quality; run by hand, never collected by pytest."""
