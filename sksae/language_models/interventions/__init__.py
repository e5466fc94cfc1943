"""Features turned up, down or off, and reconstructions put in, while a model runs."""
