"""Measurement of knowledge: bit complexity, table, laws, figures and report."""
