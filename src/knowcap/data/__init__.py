"""Synthetic people, their biographies, corpora, token streams and evaluation prompts."""
