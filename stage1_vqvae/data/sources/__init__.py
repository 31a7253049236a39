"""Where images come from: a class for each option of ``data=``."""
