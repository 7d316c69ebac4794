"""What people read of a run: a table, rows for a spreadsheet, a page for a browser."""
