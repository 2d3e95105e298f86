"""Modules: activations, linear and convolutional layers, constraints computed once."""
