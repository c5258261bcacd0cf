"""Object stores that need no cloud."""
