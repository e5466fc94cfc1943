"""Access to the inside of a Hugging Face model."""
