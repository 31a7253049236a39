"""The gated PixelCNN."""
