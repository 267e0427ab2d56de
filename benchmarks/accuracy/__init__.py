"""Accuracy of quantised networks on labelled data, beside float."""
