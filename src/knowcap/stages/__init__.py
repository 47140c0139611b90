"""Stages called in one process: precisions, evaluation after training, golden traces."""
