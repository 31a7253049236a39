"""A run that is planned for a given time: settings chosen from the data, the machine and the clock."""
