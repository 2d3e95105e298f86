"""What experiments on digits share: images, classifier, generator, critics, pairs of samples."""
