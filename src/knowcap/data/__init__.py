"""The knowledge: people, their biographies, and the token windows a model reads."""
