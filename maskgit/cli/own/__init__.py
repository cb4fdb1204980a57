"""One's own pictures in one command: looked at, settings chosen, trained by time, and a verdict."""
