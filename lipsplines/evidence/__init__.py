"""Records of runs: storage, provenance, checkpoints of trainings, statistics of comparisons."""
