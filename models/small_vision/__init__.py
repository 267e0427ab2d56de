"""Small hybrid vision networks for 32x32 images, with weights trained on real data."""
