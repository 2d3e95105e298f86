"""Models leave the library and come back: folded, described, stored, and trained ones."""
