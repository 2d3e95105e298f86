"""Checks of the plug-and-play iterations."""
