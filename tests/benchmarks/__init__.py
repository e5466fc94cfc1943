"""Measurements of speed, memory and quality; run by hand but for the smoke test."""
