"""Labelled images from published packages, for training and for measuring the accuracy of artifacts."""
