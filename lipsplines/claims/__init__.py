"""What the records say about the claims of the paper."""
