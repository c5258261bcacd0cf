"""What goes, who says so, and how it is removed."""
