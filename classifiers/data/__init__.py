"""Where images come from, by index, as bytes of one size."""
