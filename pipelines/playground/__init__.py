"""A page in the browser to try a generator in."""
