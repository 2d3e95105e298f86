"""What the experiments on natural images share: images, patches of them, pairs with noise."""
