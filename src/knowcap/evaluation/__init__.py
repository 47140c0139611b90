"""Evaluation of trained models: losses per person and attribute, and quantisation."""
