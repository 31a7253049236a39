"""Where metrics and images of a training are logged."""
