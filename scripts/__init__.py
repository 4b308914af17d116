"""The `gfnet` command: reports and plots on top of the other packages."""
