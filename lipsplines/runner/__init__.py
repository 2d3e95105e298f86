"""Running experiments: cells, groups, clusters, merging, verification. It knows none of them."""
