"""Sources of images: by index, as bytes of one size."""
