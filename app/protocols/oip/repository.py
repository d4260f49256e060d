"""The model repository extension: which models there are, loading and unloading them."""
