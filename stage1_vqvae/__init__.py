"""Stage one: a VQ-VAE turns images into short sequences of integers and back."""
