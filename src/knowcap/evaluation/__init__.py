"""Evaluation of trained models: losses per person and attribute, quantisation, golden traces."""
