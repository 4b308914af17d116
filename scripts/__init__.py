"""The `gfnet` command: reports and plots around the other rooms."""
