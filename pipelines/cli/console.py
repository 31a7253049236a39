"""Where commands print."""

from rich.console import Console

# In a notebook too they print lines of text: each would be an output of its own as HTML.
console = Console(highlight=False, soft_wrap=True, force_jupyter=False)
