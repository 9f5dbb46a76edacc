"""The demo day: a scenario on a real grid, the outside world that plays it, and the command that shows it."""
