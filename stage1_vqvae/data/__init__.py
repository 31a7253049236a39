"""Images: where they come from, how they are decoded, prepared and kept."""
