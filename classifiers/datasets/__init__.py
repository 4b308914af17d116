"""Where images come from: generated road scenes, the user's own files, any torch data set."""
