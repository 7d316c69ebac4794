"""A plan as a page for a browser."""
