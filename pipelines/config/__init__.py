"""Configuration: which keys there are, objects made of it, which settings own a folder, secrets."""
