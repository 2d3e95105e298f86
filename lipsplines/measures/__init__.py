"""Measures of results: optimal transport, scores of generated images, quality of images."""
