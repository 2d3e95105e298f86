"""Loops that train: regression, batches of models, critics and generators, step by step."""
