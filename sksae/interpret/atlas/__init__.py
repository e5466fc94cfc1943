"""Everything about every feature from one pass over the data."""
