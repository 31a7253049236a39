"""What every command shares: its start, its errors, ``--info``."""
