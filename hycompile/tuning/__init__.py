"""Choice by measurement: which of several equal forms a device runs fastest, found once and kept as a recipe."""
