"""Templates of `trireme new`, one folder a kind; `{{name}}` and the like are filled in."""
