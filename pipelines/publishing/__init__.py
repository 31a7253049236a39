"""Models that travel: folders of plain files, and the Hugging Face hub."""
