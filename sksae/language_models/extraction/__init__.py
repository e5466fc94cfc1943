"""Texts, token ids, conversations and images to rows of activations, and where each came from."""
