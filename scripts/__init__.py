"""The `gfnet` command: configs, reports and plots around the other rooms."""
